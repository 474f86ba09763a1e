"""`/metrics` of real processes: one, and two that share a directory."""

import signal
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli.processes import done, running
from tests.metrics.promtool import promtool
from tests.metrics.queries import series

SERVES = r"running on (http://127\.0\.0\.1:\d+)"
PREFIX = "/api/v1/s3-media"


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a broker whose S3 is never asked, with its database."""
    variables = {
        "SECRET_KEY": "an operator's secret of more than 32 bytes",
        "AWS_S3_BUCKET_NAME": "videos",
        "AWS_ACCESS_KEY_ID": "AKIA0000000000000000",
        "AWS_SECRET_ACCESS_KEY": "of nobody",
        "BROKER_S3_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    assert done("migrate", cwd=tmp_path, **variables).returncode == 0
    return variables


def refused(text: str) -> float:
    """Return how many requests were answered that they need a token."""
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    wanted = ("broker_refusals_total", {"reason": "not-authenticated"})
    return sum(sample.value for sample in samples if (sample.name, sample.labels) == wanted)


def test_one_process_shows_everything_and_prometheus_accepts_it(variables: dict[str, str], tmp_path: Path) -> None:
    with running("serve", "--port", "0", cwd=tmp_path, **variables) as server:
        url = server.wait_for(SERVES)[1]
        assert httpx.get(f"{url}{PREFIX}/").status_code == 401
        answer = httpx.get(f"{url}/metrics")
        assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    assert refused(answer.text) == 1
    assert answer.headers["content-type"].startswith("text/plain")
    declared = {family.name for family in text_string_to_metric_families(answer.text)}
    expected = {name for name in series() if name.startswith("broker_")}
    for name in expected:
        assert any(name.startswith(known) for known in declared), name
    promtool("check", "metrics", said=answer.content)


def test_two_processes_that_share_a_directory_answer_for_each_other(variables: dict[str, str], tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    told = variables | {"PROMETHEUS_MULTIPROC_DIR": str(shared)}
    with (
        running("serve", "--port", "0", cwd=tmp_path, **told) as one,
        running("serve", "--port", "0", cwd=tmp_path, **told) as other,
    ):
        first, second = (server.wait_for(SERVES)[1] for server in (one, other))
        for url, times in ((first, 3), (second, 2)):
            for _ in range(times):
                assert httpx.get(f"{url}{PREFIX}/").status_code == 401
        shown = [httpx.get(f"{url}/metrics") for url in (first, second)]
        assert [refused(answer.text) for answer in shown] == [5, 5]
        # A gauge is one value, not one for each process.
        assert shown[0].text.count("\nbroker_pending_media ") == 1
        promtool("check", "metrics", said=shown[0].content)
        assert one.end(signal.SIGTERM) in (0, -signal.SIGTERM)
        # What a process counted outlives it.
        assert refused(httpx.get(f"{second}/metrics").text) == 5
        assert other.end(signal.SIGTERM) in (0, -signal.SIGTERM)
