"""The status of a fleet: its state and that of each node, its convergence, the contents of its generations."""
