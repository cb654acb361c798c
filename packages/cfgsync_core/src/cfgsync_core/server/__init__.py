"""HTTP in: routes, handlers, connections, and the sources that serve a fixed bundle."""
