"""Environment-scoped config documents on the store of cfgsync. This is the door; the rooms come with their own issue."""
