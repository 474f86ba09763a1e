"""The schema's revisions, applied by Alembic."""
