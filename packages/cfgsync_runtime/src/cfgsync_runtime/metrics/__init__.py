"""`GET /metrics`: what is counted, and how a scraper reads it."""
