"""The distribution that owns the `cfgsync` command. The code is in `cfgsync_runtime` and below."""
