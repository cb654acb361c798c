"""The composer, the only place that puts a server together: it opens a store, a source, the wrappers and a server, and closes
them in the right order."""
