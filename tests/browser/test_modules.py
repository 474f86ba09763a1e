"""The browser modules alone: their unit tests in node, and their types in tsc."""

import json
import subprocess
from pathlib import Path

import pytest

import broker
from broker.domain.video_types import VIDEO_TYPES
from tests.support.npm import packages, program

HERE = Path(__file__).parent
WEB = Path(broker.__file__).parent / "web"


@pytest.mark.parametrize("suite", sorted(HERE.glob("unit/*.test.mjs")), ids=lambda path: path.name)
def test_the_modules_unit_tests_pass(suite: Path) -> None:
    done = subprocess.run([program("node"), "--test", str(suite)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "# pass 0" not in done.stdout


@pytest.mark.parametrize("source", ["consumer.ts", "uppy.ts"])
def test_tsc_accepts_valid_code_of_an_application_and_refuses_misuse(tmp_path: Path, source: str) -> None:
    installed = packages("typescript@5.9.3", "@uppy/core@6.3.1") / "node_modules"
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "s3-media-broker-web").symlink_to(WEB)
    (tmp_path / "node_modules" / "@uppy").symlink_to(installed / "@uppy")
    (tmp_path / source).write_text((HERE / "unit" / source).read_text())
    options = {
        "strict": True,
        "exactOptionalPropertyTypes": True,
        "noEmit": True,
        "target": "es2022",
        "lib": ["es2022", "dom", "dom.iterable"],
        "module": "esnext",
        "moduleResolution": "bundler",
        "skipLibCheck": source == "uppy.ts",  # it would check Uppy and its dependencies, too
        "types": [],
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": [source]}))
    command = [str(installed / ".bin" / "tsc"), "--project", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_helper_infers_every_type_of_the_table_by_name_alias_and_extension() -> None:
    files = {
        (f"film.{extension}", given): row.name
        for row in VIDEO_TYPES
        for extension in row.extensions
        for given in ("", "application/octet-stream", "video/x-unknown")
    }
    files |= {("film", given): row.name for row in VIDEO_TYPES for given in (row.name, *row.other_names)}
    script = f"""
        import {{ contentTypeOf }} from {json.dumps((WEB / "broker-upload.js").as_uri())};
        const files = {json.dumps(list(files))};
        console.log(JSON.stringify(files.map(([name, type]) => contentTypeOf(new File([], name, {{ type }})))));
    """
    command = [program("node"), "--input-type=module", "--eval", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == list(files.values())
