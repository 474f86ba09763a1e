"""Record resumable uploads: the size of their parts, until when these are accepted, and their composition.

Older code takes a resumable media for one whose upload has not arrived. It may expire it early; newer code completes
what arrived nevertheless.
"""

import sqlalchemy as sa
from alembic import op

revision = "2003"
down_revision = "2002"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True).with_variant(sa.String(27), "sqlite")


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("broker_media", sa.Column("part_size", sa.BigInteger))
    op.add_column("broker_media", sa.Column("upload_expires_at", _INSTANT))
    op.add_column("broker_media", sa.Column("promised_crc64nvme", sa.Text))
    op.add_column("broker_media", sa.Column("parts_digest", sa.Text))
    op.add_column("broker_media", sa.Column("multipart_id", sa.Text))
