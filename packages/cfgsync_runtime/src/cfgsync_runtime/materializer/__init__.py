"""The application's class: found by its name, and run in a child process."""
