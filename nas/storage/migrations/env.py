"""Runs the steps for Alembic, all in one write transaction of the store that asks for them."""

from alembic import context

from nas.storage.tables import metadata

with context.config.attributes["writing"]() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    context.run_migrations()
