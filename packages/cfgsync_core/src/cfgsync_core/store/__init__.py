"""What a store promises, and the hints that follow a commit: versions, entries, the reference engine."""
