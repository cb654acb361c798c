"""`python -I -m cfgsync` is the command `cfgsync`, with no variable that is meant for another Python program."""

from cfgsync_runtime.cli import main

main()
