"""The PPP client behind our own LAC: when to call, when to call again."""
