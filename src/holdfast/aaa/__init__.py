"""AAA: who may connect and with which address. `authenticator` is the interface, `local` serves it from configuration."""
