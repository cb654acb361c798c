"""How a node reaches its server: addresses, and the carriers of its requests."""
