"""What is said over HTTP: bodies, headers and statuses, encoded and decoded once, with every limit."""
