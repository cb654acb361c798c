"""What an application writes, and the wrappers around it: materializers, snapshots, sinks."""
