"""Record the caller that issued on behalf of an owner, and what the upload token allows."""

import sqlalchemy as sa
from alembic import op

revision = "1002"
down_revision = "1001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("media", sa.Column("issued_by", sa.Text))
    op.add_column("media", sa.Column("allow_link", sa.Boolean))
    on_behalf = sa.text("issued_by IS NOT NULL")
    op.create_index(
        "ix_media_issuers_key", "media", ["idempotency_key"], sqlite_where=on_behalf, postgresql_where=on_behalf
    )
