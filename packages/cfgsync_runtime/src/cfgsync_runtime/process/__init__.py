"""The server as a process: its log, its garbage collection, faults of its event loop."""
