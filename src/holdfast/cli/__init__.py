"""The `holdfast` command. `run` starts before anything slow is imported; all else is a client of the control API."""
