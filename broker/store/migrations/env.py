"""Run by Alembic: apply revisions on the connection that `migrate` holds."""

from alembic import context

from broker.store.indexes import METADATA

connection = context.config.attributes["connection"]
# SQLite's DDL is transactional as well, once the driver begins no transaction by itself.
context.configure(connection=connection, target_metadata=METADATA, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
