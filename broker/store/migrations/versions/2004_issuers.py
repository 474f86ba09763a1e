"""Index the media that a caller issued on behalf of others, so that the erasure of that caller finds them."""

import sqlalchemy as sa
from alembic import op

revision = "2004"
down_revision = "2003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    on_behalf = sa.text("issued_by IS NOT NULL")
    op.create_index(
        "ix_broker_media_issued_by", "broker_media", ["issued_by"], sqlite_where=on_behalf, postgresql_where=on_behalf
    )
