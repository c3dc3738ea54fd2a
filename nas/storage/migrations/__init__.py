"""How the schema came to be: Alembic's environment and one file for each step.

A step is written by hand; a test holds the schema it leads to equal to ``nas.storage.tables``.
"""
