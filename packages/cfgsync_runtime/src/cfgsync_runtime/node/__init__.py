"""A node on this machine: fetch, write, remember, start the program, stay in step."""
