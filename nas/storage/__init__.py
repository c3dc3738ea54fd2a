"""Where searches live: the ``SearchStore`` interface, and an in-memory and an SQL implementation."""
