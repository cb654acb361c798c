"""`python -I -m cfgsync_runtime` is the command `cfgsync`, with no variable that is meant for another Python program."""

from .cli import main

main()
