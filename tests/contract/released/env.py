"""Alembic's environment of the releases whose tables were named `media`, `usage`, `outbox` and `disabled_target`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
