"""`/login` and `/logout`: a reader's or an operator's token opens the page."""
