"""The nodes as the server knows them: registered, last seen, removed, acknowledged."""
