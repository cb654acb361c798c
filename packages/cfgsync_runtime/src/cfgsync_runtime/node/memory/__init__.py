"""What a node remembers on its disk: its secret, the files that it saw, and that a watcher runs."""
