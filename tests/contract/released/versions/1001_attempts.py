"""Count the attempts to promote, and keep counting the promise of a rejected or deleted media.

Media that were promoted before keep attempt 0 and with it their final key. Older code would look for the objects of new
media under the wrong key, so it cannot use this schema.
"""

import sqlalchemy as sa
from alembic import op

revision = "1001"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("media", sa.Column("attempt", sa.Integer, nullable=False, server_default=sa.text("0")))
    op.add_column("media", sa.Column("still_promised", sa.Boolean, nullable=False, server_default=sa.false()))
    promoting = sa.text("state = 'promoting'")
    op.create_index("ix_media_promoting", "media", ["due_at"], sqlite_where=promoting, postgresql_where=promoting)
