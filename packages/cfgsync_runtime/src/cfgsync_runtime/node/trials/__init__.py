"""A change of a node that takes turns is on trial until its program proves healthy, or it is taken back."""
