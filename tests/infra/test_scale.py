"""The sums of infra/scale.py, checked by hand, and the table in infra/README.md."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

INFRA = Path(__file__).parents[2] / "infra"


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    """Load the program by its path, because `infra` is not a package."""
    spec = importlib.util.spec_from_file_location("scale", INFRA / "scale.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale"] = module
    spec.loader.exec_module(module)
    return module


def test_each_sum_by_hand(scale: ModuleType) -> None:
    figures = scale.Figures(
        issue_ms=1,
        complete_ms=9,
        playback_ms=2,
        playbacks=5,
        busy=0.5,
        database_ms=2,
        wal_bytes=2_000,
        row_bytes=500,
        ended=0.1,
        keep_days=10,
    )
    need = scale.need(1_000, figures)
    assert need.cores == pytest.approx(40)  # 20 ms of 1,000 a second, at half load
    assert need.replicas == 40
    assert need.connections == 200
    assert need.database_cores == pytest.approx(4)
    assert need.wal_megabytes == pytest.approx(2)
    assert need.primaries == 1
    assert need.rows_gigabytes == pytest.approx(1_183.41)  # nine tenths of 2,629.8 million of 500 bytes
    assert need.removed_gigabytes == pytest.approx(43.2)  # a tenth of the 864 million of ten days
    assert (need.staging_partitions, need.media_partitions) == (1, 1)
    assert need.sqs_requests == pytest.approx(1_200)
    assert need.ingress_gigabits == pytest.approx(400)


def test_the_bill_of_a_million_uploads_by_hand(scale: ModuleType) -> None:
    bill = scale.dollars_per_million(scale.need(1_000, scale.Figures(megabytes=50)))
    assert bill["S3 requests"] == pytest.approx(10.40)  # a form and a copy at 5 $, one HEAD at 0.40 $
    assert bill["SQS requests"] == pytest.approx(0.48)
    assert bill["storing a month's videos for a month"] == pytest.approx(1_150)  # 50 TB at 0.023 $ a GB


def test_s3_needs_more_prefixes_with_every_3500_writes(scale: ModuleType) -> None:
    figures = scale.Figures(staging_writes=1)
    assert [scale.need(load, figures).staging_partitions for load in (3_500, 3_501, 896_000)] == [1, 2, 256]
    assert scale.need(896_000, figures).fits_s3
    assert not scale.need(896_001, figures).fits_s3
    assert "(too many)" in scale.table([scale.need(896_001, figures)])


@pytest.mark.parametrize(
    ("changes", "primaries"),
    [
        ({"primary_cores": 1, "database_ms": 3, "busy": 1}, 3),
        ({"primary_wal_megabytes": 1, "wal_bytes": 5_000}, 5),
        ({"primary_connections": 40, "busy": 1, "issue_ms": 10, "complete_ms": 10, "playbacks": 0}, 3),
        ({"primary_wal_megabytes": 1_000, "primary_cores": 1_000, "primary_connections": 1_000}, 1),
    ],
)
def test_the_scarcest_resource_of_a_primary_sets_the_number_of_primaries(
    changes: dict[str, float], primaries: int, scale: ModuleType
) -> None:
    assert scale.need(1_000, scale.Figures(**changes)).primaries == primaries


def test_a_small_load_still_has_two_replicas(scale: ModuleType) -> None:
    assert scale.need(0.1, scale.Figures()).replicas == 2


@pytest.mark.parametrize("uploads", [0, -1])
def test_a_load_of_zero_or_less_is_refused(uploads: float, scale: ModuleType) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        scale.need(uploads, scale.Figures())


def test_an_option_changes_the_sum() -> None:
    command = [sys.executable, str(INFRA / "scale.py"), "3500", "--staging-writes", "2"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| S3: `staging/` prefixes, of 256 | 2 |" in output


def test_the_guide_shows_the_table_that_the_program_prints(scale: ModuleType) -> None:
    assert scale.main([]) in (INFRA / "README.md").read_text()
