"""What `cfgsync fetch` is made of: its arguments, what they mean, and the whole course of a node."""
