"""One connection: accepting it, reading a body from it, writing a reply to it."""
