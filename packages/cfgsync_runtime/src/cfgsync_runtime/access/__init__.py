"""Access: a name belongs to its first secret, operators use the admin socket, an insecure server warns."""
