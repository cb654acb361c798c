"""The program that a node starts: running it, telling it, ending it."""
