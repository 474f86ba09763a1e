"""Create the outbox, and record what was seen in a video."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")
_DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "broker_outbox",
        sa.Column("media_id", sa.Uuid, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("data", _DOCUMENT, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", _INSTANT),
        sa.Column("give_up_at", _INSTANT, nullable=False),
        sa.Column("failure", sa.Text),
        sa.PrimaryKeyConstraint("media_id", "target", "version", name="pk_broker_outbox"),
        sa.CheckConstraint(
            "state IN ('pending', 'promoting', 'ready', 'rejected', 'expired', 'deleting', 'deleted')",
            name=op.f("ck_broker_outbox_state"),
        ),
    )
    waits = sa.text("next_at IS NOT NULL")
    op.create_index(
        "ix_broker_outbox_due", "broker_outbox", ["target", "next_at"], sqlite_where=waits, postgresql_where=waits
    )
    op.create_table(
        "broker_disabled_target",
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("disabled_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("target", name="pk_broker_disabled_target"),
    )
    op.add_column("broker_media", sa.Column("measured_seconds", sa.Double))
    op.add_column("broker_media", sa.Column("codec", sa.Text))
    op.add_column("broker_media", sa.Column("width", sa.Integer))
    op.add_column("broker_media", sa.Column("height", sa.Integer))
