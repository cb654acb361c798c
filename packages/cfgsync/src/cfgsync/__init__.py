"""The whole product as one distribution. The code is in `cfgsync_runtime` and below."""
