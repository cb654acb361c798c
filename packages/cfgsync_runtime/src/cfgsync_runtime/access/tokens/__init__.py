"""Tokens: what they let a caller do, how they are made and shown, and how a node spends one to join."""
