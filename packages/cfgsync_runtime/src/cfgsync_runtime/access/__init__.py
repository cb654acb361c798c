"""Access: a name belongs to its first secret, operators are on this machine, an insecure server warns."""
