"""The whole application mounted in another one, whose server runs no lifespan for it."""

from pathlib import Path

import pytest
from fastapi import FastAPI

from broker.api.state import NOT_STARTED
from broker.app import PREFIX, create_app
from tests.support.serving import bearing, client_of, settings_of, token


async def test_a_mounted_application_that_was_not_started_reports_the_reason(tmp_path: Path) -> None:
    host = FastAPI()
    host.mount("/broker", create_app(settings_of(tmp_path)))
    async with client_of(host, raised=True) as client:
        with pytest.raises(RuntimeError) as failure:  # the host's server logs it
            await client.get(f"/broker{PREFIX}/", headers=bearing(token()))
    assert "include_router(create_router(settings)" in NOT_STARTED
    assert str(failure.value) == NOT_STARTED


@pytest.mark.parametrize("path", ["/upload", "/"])
async def test_a_mounted_application_works_if_the_host_runs_its_lifespan(tmp_path: Path, path: str) -> None:
    app = create_app(settings_of(tmp_path))
    host = FastAPI(lifespan=app.router.lifespan_context)
    host.mount("/broker", app)
    async with client_of(host) as client:
        url = f"/broker{PREFIX}{path}"
        if path == "/":
            assert (await client.get(url, headers=bearing(token()))).status_code == 200
            return
        answer = await client.post(url, json={"content_type": "video/mp4"}, headers=bearing(token()))
        assert answer.status_code == 201
        assert answer.json()["complete_url"].startswith(f"http://broker.example/broker{PREFIX}/")
