"""What everything stands on: time, sequence numbers, deadlines, identities, errors. No I/O, no randomness."""
