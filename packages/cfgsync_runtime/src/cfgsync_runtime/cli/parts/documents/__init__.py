"""The parts of `cfgsync config`."""
