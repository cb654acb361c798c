"""What a server is told to do: flags and variables, a server file, a bundle file."""
