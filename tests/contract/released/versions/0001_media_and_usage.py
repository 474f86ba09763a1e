"""Create media and usage."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")
_DOCUMENT = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "media",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("content_type", sa.Text, nullable=False),
        sa.Column("max_size", sa.BigInteger, nullable=False),
        sa.Column("promised_size", sa.BigInteger),
        sa.Column("promised_sha256", sa.Text),
        sa.Column("filename", sa.Text),
        sa.Column("duration_seconds", sa.Double),
        sa.Column("metadata", _DOCUMENT, nullable=False),
        sa.Column("redirect_url", sa.Text),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("policy_expires_at", _INSTANT, nullable=False),
        sa.Column("idempotency_key", sa.Text),
        sa.Column("idempotency_digest", sa.Text),
        sa.Column("size", sa.BigInteger),
        sa.Column("etag", sa.Text),
        sa.Column("checksum", sa.Text),
        sa.Column("etag_is_md5", sa.Boolean(), nullable=False),
        sa.Column("judgements", sa.Integer, nullable=False),
        sa.Column("ready_at", _INSTANT),
        sa.Column("differences", sa.Text),
        sa.Column("due_at", _INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_media"),
        sa.CheckConstraint(
            "state IN ('pending', 'promoting', 'ready', 'rejected', 'expired', 'deleting', 'deleted')",
            name=op.f("ck_media_state"),
        ),
    )
    _create_index("ix_media_state", ["owner", "state", "id"])
    _create_index("ix_media_due", ["due_at"], where="due_at IS NOT NULL")
    _create_index("ix_media_pending", ["created_at"], where="state = 'pending'")
    _create_index(
        "uq_media_idempotency", ["owner", "idempotency_key"], where="idempotency_key IS NOT NULL", unique=True
    )
    counters = ("pending_count", "promised_bytes", "stored_bytes", "media_count")
    op.create_table(
        "usage",
        sa.Column("owner", sa.Text, nullable=False),
        *(sa.Column(counter, sa.BigInteger, nullable=False) for counter in counters),
        sa.PrimaryKeyConstraint("owner", name="pk_usage"),
        *(sa.CheckConstraint(f"{counter} >= 0", name=op.f(f"ck_usage_{counter}")) for counter in counters),
    )


def _create_index(name: str, columns: list[str], *, where: str | None = None, unique: bool = False) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(name, "media", columns, unique=unique, sqlite_where=condition, postgresql_where=condition)
