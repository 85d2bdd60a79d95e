"""Looking at studies while they run: in a terminal (`alphasweep watch`) and in a browser (`alphasweep serve`). Both only read."""
