"""What the health routes notice: a database that was not migrated, an S3 that is silent."""

from pathlib import Path

from broker.store import migrate
from tests.security.serving import served


async def test_a_broker_is_ready_once_its_database_is_migrated(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/later.db"
    async with served(tmp_path, database_url=url) as client:
        refused = await client.get("/readyz")
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:s3-media:problem:database-away")
        assert "media" not in refused.json()["detail"]
        migrate(url)
        assert (await client.get("/readyz")).status_code == 200
