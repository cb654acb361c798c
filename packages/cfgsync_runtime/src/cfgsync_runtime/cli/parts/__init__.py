"""What several commands share: how they ask a server, what they print, what a terminal can show."""
