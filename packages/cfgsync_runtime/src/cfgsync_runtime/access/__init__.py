"""Access: a name belongs to its first secret, operators are on this machine, and an insecure server says so."""
