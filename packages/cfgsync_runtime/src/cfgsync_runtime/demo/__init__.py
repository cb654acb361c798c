"""`cfgsync demo`: a whole boot on one machine."""
