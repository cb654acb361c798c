"""The settings of a server: flags and variables, a server file, a bundle file."""
