import os
import subprocess
import sys
from pathlib import Path

from tests.acceptance.known_gaps import KNOWN_GAPS


def test_each_known_gap_names_a_test_of_this_folder() -> None:
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "--quiet", str(Path(__file__).parent)],
        env={**os.environ, "BROKER_TEST_S3": ",".join(KNOWN_GAPS)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    names = {line.rpartition("::")[2] for line in collected}
    for server, gaps in KNOWN_GAPS.items():
        for gap in gaps:
            test, bracket, case = gap.partition("[")
            name = f"{test}[{server}-{case}" if bracket else f"{test}[{server}]"
            assert name in names
