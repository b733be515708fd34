"""Simulated drives, written from the specifications; each lies or fails as it is told."""
