"""Who may call what: a name belongs to its first secret, and what is insecure is said."""
