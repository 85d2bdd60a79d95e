"""The commands of `alphasweep`, one module per family, and how they print."""
