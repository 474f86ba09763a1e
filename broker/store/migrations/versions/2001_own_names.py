"""Give each table, index and constraint a name of the broker's own, and keep the revision in `broker_version`.

The revisions before this one create the new names, because an application may use the old ones in the same database. A
database that holds the old names is renamed before its next revision is applied (`broker.store.migrations.earlier`).
Older code looks for the old names, so it cannot use this schema.
"""

revision = "2001"
down_revision = "1002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing: the revision only ends what older code can use."""
