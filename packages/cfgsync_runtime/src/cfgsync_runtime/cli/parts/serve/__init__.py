"""What `cfgsync serve` is made of: its plain command line, what is served, how it is read again, and the server's whole run."""
