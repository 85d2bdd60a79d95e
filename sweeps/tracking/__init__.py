"""Trackers beside a run: which are asked for, the process that writes to them, and writing later what it could not."""
