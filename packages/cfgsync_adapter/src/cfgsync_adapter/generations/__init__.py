"""Numbered, published sets of files: what is in one, when a new one is made, what a node can take."""
