"""`/metrics` of real processes: one, the two of one server, and two servers that share a directory."""

import signal
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from broker.metrics import Shared
from tests.metrics.promtool import promtool
from tests.support.processes import BROKER, ROOT, done, running
from tests.support.queries import series
from tests.support.waiting import answers, until

SERVES = r"running on (http://127\.0\.0\.1:\d+)"
PREFIX = "/api/v1/s3-media"


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a broker whose S3 is never asked, with its database."""
    variables = {
        "SECRET_KEY": "an operator's secret of more than 32 bytes",
        "AWS_S3_BUCKET_NAME": "videos",
        "AWS_ACCESS_KEY_ID": "AKIA0000000000000000",
        "AWS_SECRET_ACCESS_KEY": "of another",
        "BROKER_S3_ENDPOINT_URL": "http://127.0.0.1:9",
        "BROKER_RATE_LIMIT_ADDRESS": "off",  # tests ask until a slow start is over
    }
    assert done("migrate", cwd=tmp_path, **variables).returncode == 0
    return variables


def refused(text: str) -> float:
    """Return how many requests were answered that they need a token."""
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    wanted = ("broker_refusals_total", {"reason": "not-authenticated"})
    return sum(sample.value for sample in samples if (sample.name, sample.labels) == wanted)


def calls_of(text: str) -> float:
    """Return how many calls to S3 are in progress."""
    (value,) = (float(line.split()[1]) for line in text.splitlines() if line.startswith("broker_s3_calls "))
    return value


def test_one_process_shows_everything_and_prometheus_accepts_it(variables: dict[str, str], tmp_path: Path) -> None:
    with running("serve", "--port", "0", cwd=tmp_path, program=BROKER, **variables) as server:
        url = server.wait_for(SERVES)[1]
        assert _get(f"{url}{PREFIX}/").status_code == 401
        answer = _get(f"{url}/metrics")
        assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    assert refused(answer.text) == 1
    assert answer.headers["content-type"].startswith("text/plain")
    declared = {family.name for family in text_string_to_metric_families(answer.text)}
    expected = {name for name in series() if name.startswith("broker_")}
    for name in expected:
        assert any(name.startswith(known) for known in declared), name
    promtool("check", "metrics", said=answer.content)


def _migrated(variables: dict[str, str], database_url: str, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """Migrate a database; return a directory for temporary files, and the variables of a server with both."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    told = variables | {"BROKER_DATABASE_URL": database_url, "TMPDIR": str(temporary)}
    assert done("migrate", cwd=tmp_path, **told).returncode == 0
    return temporary, told


def test_any_process_of_a_server_serves_the_metrics_of_all_even_dead_ones(
    variables: dict[str, str], postgresql_url: str, tmp_path: Path
) -> None:
    temporary, told = _migrated(variables, postgresql_url, tmp_path)
    with running("serve", "--workers", "2", "--port", "0", cwd=tmp_path, program=BROKER, **told) as server:
        url = server.wait_for(SERVES)[1]
        until(lambda: answers(url, "/readyz"))
        serving = _processes_of(server.process.pid)
        assert len(serving) == 2
        until(lambda: _refuse(url) and _who_counted(temporary) == set(serving))
        refused_then = _refuse(url)
        assert {refused(_scrape(url)) for _ in range(20)} == {refused_then}
        serving[min(serving)].kill()
        # The process may have accepted a connection just before, which is then reset.
        with suppress(httpx.TransportError):
            _refuse(url)
        until(lambda: _refuse(url) and len(_who_counted(temporary)) == 3)
        assert all(
            (refused(text) >= refused_then, text.count("\nbroker_pending_media ")) == (True, 1)
            for text in (_scrape(url) for _ in range(20))
        )
        (shared,) = temporary.iterdir()
        assert stat.S_IMODE(shared.stat().st_mode) == 0o700
        assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
        assert "Traceback" not in server.said
    assert list(temporary.iterdir()) == []


def test_calls_of_a_killed_process_are_no_longer_in_progress(
    variables: dict[str, str], postgresql_url: str, tmp_path: Path
) -> None:
    temporary, told = _migrated(variables, postgresql_url, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as threads:
        told |= {"BROKER_S3_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        told |= {"BROKER_S3_TIMEOUT_SECONDS": "600"}
        with running("serve", "--workers", "2", "--port", "0", cwd=tmp_path, program=BROKER, **told) as server:
            url = server.wait_for(SERVES)[1]
            until(lambda: answers(url, "/readyz"))
            serving = _processes_of(server.process.pid)
            asking = threads.submit(_get, f"{url}{PREFIX}/health/s3", seconds=600)
            until(lambda: calls_of(_scrape(url)) == 1)
            (shared,) = temporary.iterdir()
            calling = [process for process in serving if _calls(shared, process) == 1]
            serving[calling[0]].kill()
            assert isinstance(asking.exception(), httpx.TransportError)
            until(lambda: calls_of(_scrape(url)) == 0)
            assert refused(_scrape(url)) == 0
            assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)


def test_a_process_that_starts_spoils_no_scrape(tmp_path: Path) -> None:
    (tmp_path / "gauge_livesum_1.db").touch()
    (tmp_path / "counter_1.db").touch()
    assert list(Shared(tmp_path).collect()) == []


def test_a_server_without_a_writable_directory_reports_it_and_serves(
    variables: dict[str, str], postgresql_url: str, tmp_path: Path
) -> None:
    told = variables | {"BROKER_DATABASE_URL": postgresql_url}
    assert done("migrate", cwd=tmp_path, **told).returncode == 0
    # As in a container whose root is read-only, and that has no /tmp.
    (tmp_path / "sitecustomize.py").write_text("import tempfile\ntempfile._candidate_tempdir_list = lambda: []\n")
    path = f"{tmp_path}:{ROOT}"
    with running(
        "serve", "--workers", "2", "--port", "0", cwd=tmp_path, program=BROKER, **told | {"PYTHONPATH": path}
    ) as server:
        url = server.wait_for(SERVES)[1]
        assert "each process exposes its own metrics" in server.said
        until(lambda: answers(url, "/readyz"))
        assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)


def test_two_servers_with_a_shared_directory_serve_each_others_metrics(
    variables: dict[str, str], tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    told = variables | {"PROMETHEUS_MULTIPROC_DIR": str(shared)}
    with (
        running("serve", "--port", "0", cwd=tmp_path, program=BROKER, **told) as one,
        running("serve", "--port", "0", cwd=tmp_path, program=BROKER, **told) as other,
    ):
        first, second = (server.wait_for(SERVES)[1] for server in (one, other))
        for url, times in ((first, 3), (second, 2)):
            for _ in range(times):
                assert _get(f"{url}{PREFIX}/").status_code == 401
        shown = [_get(f"{url}/metrics") for url in (first, second)]
        assert [refused(answer.text) for answer in shown] == [5, 5]
        # A gauge is one value, not one for each process.
        assert shown[0].text.count("\nbroker_pending_media ") == 1
        promtool("check", "metrics", said=shown[0].content)
        assert one.end(signal.SIGTERM) in (0, -signal.SIGTERM)
        # What a process counted outlives it.
        assert refused(_get(f"{second}/metrics").text) == 5
        assert other.end(signal.SIGTERM) in (0, -signal.SIGTERM)


def test_a_worker_exposes_its_counts_but_no_backlog_that_only_serve_reads(
    variables: dict[str, str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = variables | {"BROKER_WORKER_METRICS_PORT": str(port)}
    with running("worker", cwd=tmp_path, program=BROKER, **told) as worker:
        worker.wait_for('"working"')
        exposed = {family.name for family in text_string_to_metric_families(_scrape(f"http://127.0.0.1:{port}"))}
        assert worker.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    assert {"broker_transitions", "broker_events", "broker_queue_lag_seconds"} <= exposed
    served_alone = {
        "broker_pending_media",
        "broker_oldest_pending_seconds",
        "broker_sweep_lag_seconds",
        "broker_webhooks_waiting",
        "broker_webhooks_given_up",
        "broker_webhook_lag_seconds",
    }
    assert exposed & served_alone == set()


def _get(url: str, *, seconds: float = 60) -> httpx.Response:
    """Send a request on a connection of its own. A busy machine may need longer than httpx's own 5 s."""
    return httpx.get(url, timeout=seconds)


def _refuse(url: str) -> float:
    """Send requests without a token, each on a connection of its own; return how many were refused by now."""
    for _ in range(10):
        assert _get(f"{url}{PREFIX}/").status_code == 401
    return refused(_scrape(url))


def _scrape(url: str) -> str:
    return _get(f"{url}/metrics").raise_for_status().text


def _processes_of(server: int) -> dict[int, psutil.Process]:
    """Return the processes that serve; the tracker of Python's own resources is none of them."""
    children = psutil.Process(server).children()
    return {child.pid: child for child in children if "spawn_main" in " ".join(child.cmdline())}


def _calls(shared: Path, process: int) -> float:
    """Return how many calls to S3 a process has in progress, by what it has written of itself."""
    files = [str(shared / f"gauge_livesum_{process}.db")]
    metrics = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
    samples = (sample for metric in metrics for sample in metric.samples)
    return sum(float(sample.value) for sample in samples if sample.name == "broker_s3_calls")


def _who_counted(temporary: Path) -> set[int]:
    """Return the processes that have refused a request, by what each has written of itself."""
    return {
        int(file.stem.rpartition("_")[2])
        for file in temporary.glob("*/counter_*.db")
        if b"not-authenticated" in file.read_bytes()
    }
