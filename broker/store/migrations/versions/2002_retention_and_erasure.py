"""Record when a media was rejected, expired or deleted, and the owners that are to be erased."""

import sqlalchemy as sa
from alembic import op

revision = "2002"
down_revision = "2001"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("broker_media", sa.Column("ended_at", _INSTANT))
    ended = sa.text("state IN ('rejected', 'expired', 'deleted')")
    op.create_index(
        "ix_broker_media_ended", "broker_media", ["state", "ended_at"], sqlite_where=ended, postgresql_where=ended
    )
    op.create_table(
        "broker_erasure",
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("next_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("owner", name="pk_broker_erasure"),
    )
