"""Hands: one module a technique, independent of each other."""
