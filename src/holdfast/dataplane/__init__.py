"""Forwarding between sessions and the kernel: one contract, several planes, and the reconciler."""
