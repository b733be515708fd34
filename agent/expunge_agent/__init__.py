"""The expunge agent: destroys what a signed order names, and proves it with a signed receipt."""

__version__ = "0.1.0"
