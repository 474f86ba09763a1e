"""Run by Alembic: apply revisions on the connection that `migrate` holds."""

from alembic import context

from broker.store.indexes import METADATA

config = context.config
# SQLite's DDL is transactional as well, once the driver begins no transaction by itself.
context.configure(
    connection=config.attributes["connection"],
    target_metadata=METADATA,
    version_table=config.attributes["version_table"],
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
