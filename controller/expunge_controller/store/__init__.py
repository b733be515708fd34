"""The store: a port, and SQLAlchemy behind it."""
