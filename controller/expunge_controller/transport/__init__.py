"""SSH in both directions, one protocol."""
