"""The journal: what must survive (docs/architecture.md, section 5) on disk, and read-only views of it."""
