"""Mutation tests: small faults in the code, one at a time, and whether the tests notice: `make mutants`.

    python -m tests.mutants [FILE or FOLDER …] [--since REVISION] [--processes N]

Without paths, all of ROOMS is mutated; with a revision, only the files of ROOMS that changed since then. mutmut makes
the mutants and runs, for each, the tests that reach its function, the fastest first. Each room is copied to
build/mutants with a configuration of its own, so that it runs with the suites that are nearest to it.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "mutants"
ROOMS = {
    "broker/domain": ("tests/unit",),
    "broker/lifecycle": ("tests/unit", "tests/lifecycle"),
    "broker/aws": ("tests/unit", "tests/aws", "tests/lifecycle"),
    "broker/store": ("tests/unit", "tests/lifecycle", "tests/contract"),
    "broker/api/auth": ("tests/api", "tests/security"),
    "broker/api/asgi": ("tests/api",),
    "broker/worker": ("tests/lifecycle", "tests/worker"),
    "broker/dev/s3/policy.py": ("tests/s3",),
    "broker/dev/s3/auth.py": ("tests/s3",),
    "broker/dev/s3/canonical.py": ("tests/s3",),
}
"""The suites that run for each mutated file or folder."""
LEFT_OUT = ("test_suites.py", "test_diagram.py", "test_errors.py")
"""Files whose tests read the source text, which mutmut rewrites."""
RESULT = re.compile(r"^\s+(?P<module>broker[\w.]*)\.(?P<mutant>x\S+): (?P<status>.+)$", re.MULTILINE)
NOTICED = {"killed", "timeout", "caught by type check"}


def main() -> None:
    """Mutate what the command line names, and print a table by module and the names of the survivors."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Run mutation tests.")
    parser.add_argument("paths", nargs="*", help="files or folders of the rooms; without any, all")
    parser.add_argument("--since", metavar="REVISION", help="only files that changed since this revision")
    parser.add_argument("--processes", type=int, default=2, help="how many mutants to test at a time (default: 2)")
    options = parser.parse_args()
    files = set(_source_files(options.paths or ROOMS))
    if options.since:
        files &= _changed_since(options.since)
    if not files:
        raise SystemExit("No file to mutate: name files of " + ", ".join(ROOMS))
    for room, suites in ROOMS.items():
        if chosen := sorted(file for file in files if file == room or file.startswith(f"{room}/")):
            _report(_mutate(room, chosen, suites, options.processes))


def _source_files(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        found = [ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.py")
        yield from (str(file.relative_to(ROOT)) for file in found if file.exists())


def _changed_since(revision: str) -> set[str]:
    return set(_output("git", "diff", "--name-only", "--diff-filter=d", revision, cwd=ROOT).split())


def _mutate(room: str, files: list[str], suites: tuple[str, ...], processes: int) -> str:
    """Copy the repository, mutate these files in the copy, and return mutmut's results."""
    copy = BUILD / room.replace("/", ".")
    shutil.rmtree(copy, ignore_errors=True)
    tracked = _output("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in tracked:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    with (copy / "pyproject.toml").open("a") as file:
        file.write(_configuration(files, suites, also_copy=sorted({name.partition("/")[0] for name in tracked})))
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(processes)]
    print(f"{room}: {', '.join(files)}\nwith the tests of {', '.join(suites)}", flush=True)
    if subprocess.run(command, cwd=copy, check=False).returncode != 0:
        raise SystemExit(f"mutmut failed in {copy.relative_to(ROOT)}; the tests must pass without a mutant, too")
    return _output(sys.executable, "-m", "mutmut", "results", "--all", "true", cwd=copy)


def _configuration(files: list[str], suites: tuple[str, ...], also_copy: list[str]) -> str:
    options = {
        "source_paths": ["broker"],
        "only_mutate": files,
        "also_copy": [name for name in also_copy if name not in {"broker", "tests", "pyproject.toml"}],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", *(f"--ignore-glob=*/{name}" for name in LEFT_OUT)],
        "pytest_add_cli_args_test_selection": list(suites),
    }
    return "\n[tool.mutmut]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items())


def _report(results: str) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    for result in RESULT.finditer(results):
        status = "noticed" if result["status"] in NOTICED else result["status"]
        counts[result["module"]][status] += 1
        if status != "noticed":
            survivors.append(f"{result['module']}.{result['mutant']}: {result['status']}")
    print("\n| module | mutants | noticed | |\n|---|---|---|---|")
    for module, counted in sorted(counts.items()):
        print(f"| `{module}` | {counted.total()} | {counted['noticed']} | {counted['noticed'] / counted.total():.0%} |")
    print(f"\n{len(survivors)} not noticed. The change of one: mutmut show NAME, in {BUILD.relative_to(ROOT)}/<room>")
    print("\n".join(survivors), flush=True)


def _output(*command: str, cwd: Path) -> str:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
