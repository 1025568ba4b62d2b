"""The plane in the kernel: eBPF programs that are pinned with their maps, and so outlive the daemon."""
