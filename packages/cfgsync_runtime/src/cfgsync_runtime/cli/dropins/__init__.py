"""`cfgsync-client` and `cfgsync-server`: the programs of the Rust library, with its flags and its exit codes."""
