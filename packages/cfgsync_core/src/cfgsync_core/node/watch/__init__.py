"""How a node stays in step: it asks, holds, installs, and takes its turn."""
