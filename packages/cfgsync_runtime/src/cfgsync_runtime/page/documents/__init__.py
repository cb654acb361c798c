"""`GET /documents`: the config documents as a page, which only reads."""
