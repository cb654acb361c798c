"""The operator's routes, and a fleet recorded as one document."""
