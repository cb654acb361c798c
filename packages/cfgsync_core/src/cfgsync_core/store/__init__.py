"""What a store promises, and the hints that follow a commit: versions, entries, backends, the reference engine."""
