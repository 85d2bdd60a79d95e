"""A study as one page that opens anywhere, and studies side by side: gathered from their folders, drawn, put into words."""
