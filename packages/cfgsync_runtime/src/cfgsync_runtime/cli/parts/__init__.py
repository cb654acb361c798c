"""Parts of the commands: the client of a server, printed lines, the terminal."""
