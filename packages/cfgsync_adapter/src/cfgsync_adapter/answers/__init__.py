"""What `POST /node` answers, the requests that are held for it, and the reason in a sentence."""
