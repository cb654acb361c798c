"""The server as a process: its log, its garbage collection, errors of its event loop."""
