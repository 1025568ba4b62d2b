"""Other people's L2TP daemons, as peers for tests and drills: configured, started, told what to do, stopped."""
