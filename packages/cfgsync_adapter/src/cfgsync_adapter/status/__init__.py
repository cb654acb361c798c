"""What people and programs see of a fleet: its state, who has applied, what a generation holds."""
