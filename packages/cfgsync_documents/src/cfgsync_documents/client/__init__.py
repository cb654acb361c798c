"""Documents in an application: typed values in step with a server, and the cache of a degraded start."""
