"""`cfgsync demo`: boot a whole fleet on one machine."""
