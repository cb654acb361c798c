"""A change takes turns: who may change now, what a turn's end means, when it stops. Decided by functions of durable words."""
