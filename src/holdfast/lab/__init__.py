"""The lab: restart drill, load generator, simulator, and the network namespaces they run in."""
