"""Pages anyone can open: one HTML file each, with tables that sort, filter and scroll. They know no study."""
