"""Mutation tests: small faults in the code, one at a time, and whether the tests notice: `make mutants`.

    python -m tests.mutants [FILE or FOLDER …] [--since REVISION] [--sample N --seed S] [--keep] [--processes N]

Without paths, all of ROOMS is mutated; with a revision, only the files of ROOMS that changed since then; with a sample,
only N mutants of each file, which the seed chooses. mutmut makes the mutants and runs, for each, the tests that reach
its function, the fastest first. Each room is copied to build/mutants with a configuration of its own, so that it runs
with the suites that are nearest to it. `--keep` updates the last copy: then only new tests are timed, and a test that
kept its name is taken to reach the functions that it reached before.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import chdir
from pathlib import Path

from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "mutants"
HOOKS = ("tests/api/test_issue_hook.py", "tests/api/test_host_hooks.py")
ISSUE = "tests/lifecycle/test_issue.py"
ROOMS = {
    "broker/domain/origin.py": ("tests/unit", "tests/worker/test_public_network.py"),
    "broker/domain": ("tests/unit",),
    "broker/lifecycle/application/agreement.py": ("tests/lifecycle/test_terms.py", *HOOKS),
    "broker/lifecycle/application/deciding.py": ("tests/lifecycle/test_deciding.py", *HOOKS),
    "broker/lifecycle/application/issue_hook.py": ("tests/lifecycle/test_issue_hook.py",),
    "broker/lifecycle/erasure.py": ("tests/lifecycle/test_erasure.py",),
    "broker/lifecycle/forms.py": ("tests/lifecycle/test_idempotency.py", "tests/lifecycle/test_lifetimes.py", ISSUE),
    "broker/lifecycle/probe.py": ("tests/worker/test_probe_answers.py",),
    "broker/lifecycle/purging.py": (
        "tests/lifecycle/test_purges.py",
        "tests/lifecycle/test_due_work.py",
        "tests/lifecycle/test_many_versions.py",
        "tests/lifecycle/test_open_policies.py",
    ),
    "broker/lifecycle/requests.py": ("tests/lifecycle/test_idempotency.py",),
    "broker/lifecycle/resumable/forms.py": (
        "tests/lifecycle/test_lifetimes.py",
        "tests/lifecycle/test_resumable.py",
        ISSUE,
    ),
    "broker/lifecycle/settlement.py": (
        "tests/lifecycle/test_completion.py",
        "tests/lifecycle/test_due_dates.py",
        "tests/lifecycle/test_due_work.py",
        "tests/lifecycle/test_judging.py",
        "tests/lifecycle/test_overtaken.py",
        "tests/lifecycle/test_properties.py",
        "tests/lifecycle/test_resumable.py",
        "tests/worker/test_probe.py",
    ),
    "broker/lifecycle/token_verbs.py": ("tests/lifecycle/test_token_verbs.py",),
    "broker/lifecycle/verbs.py": (
        "tests/lifecycle/test_idempotency.py",
        "tests/lifecycle/test_lifetimes.py",
        "tests/lifecycle/test_resumable.py",
        "tests/lifecycle/test_sweep.py",
        ISSUE,
        "tests/api/test_form_return.py",
        "tests/api/test_issue_hook.py",
    ),
    "broker/lifecycle/waiting.py": ("tests/worker/test_waiting.py",),
    "broker/lifecycle": ("tests/lifecycle",),
    "broker/aws/cloudfront.py": ("tests/aws/test_addresses.py", "tests/lifecycle/test_cloudfront.py"),
    "broker/aws/credentials.py": ("tests/aws/test_credentials.py",),
    "broker/aws/queue.py": ("tests/aws/test_queue.py",),
    "broker/aws": ("tests/aws", "tests/lifecycle/test_completion.py", "tests/lifecycle/test_slow_copies.py"),
    "broker/store/batching": ("tests/unit/test_batcher.py",),
    "broker/store/connections": (
        "tests/unit/test_database_url.py",
        "tests/unit/test_deadlines.py",
        "tests/unit/test_engine.py",
    ),
    "broker/store/migrations/earlier.py": ("tests/contract/test_earlier_releases.py",),
    "broker/store/migration.py": (
        "tests/contract/test_revisions.py",
        "tests/contract/test_schema.py",
        "tests/contract/test_shared_database.py",
    ),
    "broker/store/schema.py": (
        "tests/unit/test_statements.py",
        "tests/unit/test_store.py",
        "tests/contract/test_schema.py",
    ),
    "broker/store": (
        "tests/unit/test_prepared.py",
        "tests/unit/test_statements.py",
        "tests/unit/test_store.py",
        "tests/contract/test_concurrency.py",
        "tests/contract/test_outbox.py",
        "tests/contract/test_records.py",
        "tests/contract/test_removal.py",
        "tests/metrics/test_counting.py",
    ),
    "broker/api/auth/caller.py": ("tests/security/test_authenticator.py",),
    "broker/api/auth/form_states.py": ("tests/security/test_own_tokens.py",),
    "broker/api/auth/jwks.py": ("tests/security/test_key_cache.py",),
    "broker/api/auth/keys.py": ("tests/security/test_key_cache.py",),
    "broker/api/auth/tokens.py": ("tests/security/test_authenticator.py",),
    "broker/api/auth": ("tests/security/test_own_tokens.py",),
    "broker/api/asgi/middleware.py": ("tests/api/test_exchange.py", "tests/api/test_envelope.py"),
    "broker/api/asgi/proxies.py": ("tests/api/test_proxies.py",),
    "broker/api/asgi": ("tests/api/test_demands.py", "tests/api/test_fast_path.py"),
    "broker/api/limits": (
        "tests/api/test_limit_windows.py",
        "tests/api/test_limits.py",
        "tests/security/test_counting.py",
    ),
    "broker/worker/ready_calls.py": ("tests/worker/test_ready_calls.py",),
    "broker/worker/sender.py": ("tests/worker/test_sender.py", "tests/worker/test_egress.py"),
    "broker/worker/sweep.py": ("tests/worker/test_sweeping.py", "tests/lifecycle/test_sweep.py"),
    "broker/worker/tidying.py": ("tests/worker/test_tidying.py",),
    "broker/worker/webhooks.py": ("tests/worker/test_delivering.py",),
    "broker/worker": ("tests/worker",),
    "broker/dev/s3/policy.py": ("tests/s3/test_policy_document.py",),
    "broker/dev/s3/auth.py": ("tests/s3/test_authenticator.py",),
    "broker/dev/s3/canonical.py": ("tests/s3/test_authenticator.py",),
}
"""The suites that run for each mutated file or folder. A file belongs to the first one that holds it."""
LEFT_OUT = ("test_suites.py", "test_diagram.py", "test_errors.py", "test_words.py")
"""Files whose tests read the source text, which mutmut rewrites."""
ONE_DATABASE = ("-k", "not postgresql or unit")
"""The tests with PostgreSQL start a server each time. Tests with SQLite notice the same faults, and those of tests/unit
the faults in what is asked of PostgreSQL alone."""
BOTH_DATABASES = {"broker/store/migration.py", "broker/store/migrations/earlier.py"}
"""Files whose suites run with PostgreSQL, too, because half of their code is for it."""
HANGS_AFTER = 40
"""A test that takes this many seconds hangs, which counts as noticed."""
FROZEN = """

def pytest_sessionfinish() -> None:
    import gc

    gc.freeze()
"""
"""A hook that keeps all that is loaded out of the garbage collections of the process of each mutant: four small tests
then take 0.08 s of processor time instead of 0.25 s."""
RESULT = re.compile(r"^\s+(?P<module>broker[\w.]*)\.(?P<mutant>x\S+): (?P<status>.+)$", re.MULTILINE)
NOTICED = {"killed", "timeout", "caught by type check"}


def main() -> None:
    """Mutate what the command line names, and print a table by module and the names of the survivors."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Run mutation tests.")
    parser.add_argument("paths", nargs="*", help="files or folders of the rooms; without any, all")
    parser.add_argument("--since", metavar="REVISION", help="only files that changed since this revision")
    parser.add_argument("--sample", type=int, metavar="N", help="N mutants of each file, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="chooses the sample (default: 0)")
    parser.add_argument("--keep", action="store_true", help="time only tests that are new since the last run")
    parser.add_argument("--processes", type=int, default=2, help="how many mutants to test at a time (default: 2)")
    options = parser.parse_args()
    files = set(_source_files(options.paths or ROOMS))
    if options.since:
        files &= _changed_since(options.since)
    if not files:
        raise SystemExit("No file to mutate: name files of " + ", ".join(ROOMS))
    for room, suites in ROOMS.items():
        if chosen := sorted(file for file in files if _room_of(file) == room):
            copy = _copy(room, suites, keep=options.keep)
            with chdir(copy):  # mutmut reads its configuration there
                mutants = [name for file in chosen for name in _sample(_mutants_of(file), options.sample, options.seed)]
            print(f"{room}: {', '.join(chosen)}\nwith the tests of {', '.join(suites)}", flush=True)
            _report(_mutate(copy, mutants, options.processes), set(mutants))


def _room_of(file: str) -> str:
    return next(room for room in ROOMS if file == room or file.startswith(f"{room}/"))


def _source_files(paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        found = [ROOT / path] if path.endswith(".py") else (ROOT / path).rglob("*.py")
        yield from (str(file.relative_to(ROOT)) for file in found if file.exists())


def _changed_since(revision: str) -> set[str]:
    return set(_output("git", "diff", "--name-only", "--diff-filter=d", revision, cwd=ROOT).split())


def _mutants_of(file: str) -> list[str]:
    mutated = mutate_file_contents(file, Path(file).read_text())
    return [get_mutant_name(Path(file), name) for name in mutated.mutant_names]


def _sample(mutants: list[str], size: int | None, seed: int) -> list[str]:
    if size is None or size >= len(mutants):
        return mutants
    return random.Random(seed).sample(mutants, size)  # noqa: S311 - a sample to repeat


def _copy(room: str, suites: tuple[str, ...], *, keep: bool) -> Path:
    """Copy the repository to a folder of this room, with mutmut's configuration, and return the folder."""
    copy = BUILD / room.replace("/", ".")
    if not keep:
        shutil.rmtree(copy, ignore_errors=True)
    tracked = _output("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in tracked:
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    with (copy / "tests" / "conftest.py").open("a") as file:
        file.write(FROZEN)
    with (copy / "pyproject.toml").open("a") as file:
        file.write(_configuration(room, suites, also_copy=sorted({name.partition("/")[0] for name in tracked})))
    return copy


def _mutate(copy: Path, mutants: list[str], processes: int) -> str:
    """Test these mutants in the copy, and return mutmut's results."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(processes), *mutants]
    if subprocess.run(command, cwd=copy, check=False).returncode != 0:
        raise SystemExit(f"mutmut failed in {copy.relative_to(ROOT)}; the tests must pass without a mutant, too")
    return _output(sys.executable, "-m", "mutmut", "results", "--all", "true", cwd=copy)


def _configuration(room: str, suites: tuple[str, ...], also_copy: list[str]) -> str:
    arguments = ["-p", "no:cacheprovider", f"--timeout={HANGS_AFTER}"]
    arguments += [f"--ignore-glob=*/{name}" for name in LEFT_OUT]
    options = {
        "source_paths": ["broker"],
        "only_mutate": [room if room.endswith(".py") else f"{room}/*"],
        "also_copy": [name for name in also_copy if name not in {"broker", "tests", "pyproject.toml"}],
        "pytest_add_cli_args": arguments if room in BOTH_DATABASES else [*arguments, *ONE_DATABASE],
        "pytest_add_cli_args_test_selection": list(suites),
        "timeout_multiplier": 3.0,
        "timeout_constant": 60.0,
        "use_git_change_detection": False,
    }
    lines = (f"{name} = {json.dumps(value)}\n" for name, value in options.items())
    return "\n[tool.mutmut]\n" + "".join(lines)


def _report(results: str, mutants: Collection[str]) -> None:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    for result in RESULT.finditer(results):
        if f"{result['module']}.{result['mutant']}" not in mutants:
            continue
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
