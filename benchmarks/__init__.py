"""Figures as ratios against yardsticks that run in the same minutes on the same machine: `make bench`. Asserts nothing."""
