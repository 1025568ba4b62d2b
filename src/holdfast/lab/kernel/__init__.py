"""A throw-away Linux kernel with L2TP and PPP, for machines whose own has neither: User-Mode Linux, without root."""
