"""L2TP with subscribers that stay connected when an endpoint crashes, is upgraded or moves."""

__version__ = "0.1.0"
