"""Several studies at once, each in a lane of its own: the host file that names lanes, the drivers, and what a person sees of them."""
