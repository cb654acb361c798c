"""The application's class: loaded by its name, and run in a child process."""
