"""For tests of an application or of an engine: the contract as functions, and faults as values."""
