"""The browser modules alone: their unit tests in node, and their types in tsc."""

import json
import subprocess
from pathlib import Path

import pytest

import broker
from broker.domain import rules

from .npm import packages, program

HERE = Path(__file__).parent
WEB = Path(broker.__file__).parent / "web"


@pytest.mark.parametrize("suite", sorted(HERE.glob("unit/*.test.mjs")), ids=lambda path: path.name)
def test_the_modules_unit_tests_pass(suite: Path) -> None:
    done = subprocess.run([program("node"), "--test", str(suite)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "# pass 0" not in done.stdout


def test_tsc_accepts_valid_code_of_an_application_and_refuses_misuse(tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "s3-media-broker-web").symlink_to(WEB)
    (tmp_path / "consumer.ts").write_text((HERE / "unit" / "consumer.ts").read_text())
    options = {
        "strict": True,
        "noEmit": True,
        "target": "es2022",
        "lib": ["es2022", "dom", "dom.iterable"],
        "module": "esnext",
        "moduleResolution": "bundler",
        "types": [],
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["consumer.ts"]}))
    tsc = packages("typescript@5.9.3") / "node_modules" / ".bin" / "tsc"
    done = subprocess.run([tsc, "--project", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_helper_infers_every_type_for_which_the_broker_has_an_extension() -> None:
    script = f"""
        import {{ contentTypeOf }} from {json.dumps((WEB / "broker-upload.js").as_uri())};
        const names = {json.dumps(sorted(rules.EXTENSIONS.values()))};
        console.log(JSON.stringify(names.map((name) => contentTypeOf(new File([], `film.${{name}}`)))));
    """
    command = [program("node"), "--input-type=module", "--eval", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    by_extension = {extension: content_type for content_type, extension in rules.EXTENSIONS.items()}
    assert json.loads(done.stdout) == [by_extension[name] for name in sorted(by_extension)]
