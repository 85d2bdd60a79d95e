"""Where studies run: the Ray session and packs of configurations on its workers."""
