"""The page: `GET /` shows the fleet to a person, and changes nothing."""
