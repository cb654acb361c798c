"""How a node knows that a server is its own, and an answer what was signed."""
