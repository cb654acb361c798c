"""Documents in other frameworks; each module needs an extra, and is loaded by the program that imports it."""
