"""Pure decisions: what a medium is, what may be done to it, in which steps, and what the evidence earns."""
