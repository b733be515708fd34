"""The store: a port (`port`), its rows (`rows`), and SQLite behind it (`sqlite`)."""
