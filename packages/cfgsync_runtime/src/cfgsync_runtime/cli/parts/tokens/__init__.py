"""The parts of `cfgsync token`."""
