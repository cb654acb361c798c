"""One file a figure of the design's speed page; each yields its rows."""
