"""A builder for infra/Dockerfile without a container engine: each stage is a folder, and RUN a chroot into it.

It supports the instructions of that Dockerfile: ARG, FROM, ENV, WORKDIR, USER, COPY and RUN. Any other instruction is
an error, so that no step is skipped silently.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH of the base image."""
METADATA = {"EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}

Build = Callable[[Path], None]


@dataclass(slots=True)
class Stage:
    """One stage: its root, and the state that its instructions set for later ones."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    metadata: dict[str, str] = field(default_factory=dict)

    def inherited(self, root: Path) -> "Stage":
        """Return a new stage that starts from a copy of this one's root and state."""
        subprocess.run(["cp", "-a", "--reflink=auto", self.root, root], check=True)
        return Stage(root, dict(self.environment), self.folder, self.user, dict(self.metadata))


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the keyword and the rest of each instruction, with continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word
    ]


class Builder:
    """Build stages under one folder; `make_base` fills a root with the contents of the base image."""

    def __init__(self, home: Path, make_base: Build, *, build_environment: dict[str, str]) -> None:
        self._home = home
        self._make_base = make_base
        self._build_environment = build_environment
        self.stages: dict[str, Stage] = {}
        self._arguments: dict[str, str] = {}

    def build(self, dockerfile: Path, *, leave_out: frozenset[str] = frozenset()) -> None:
        """Build every stage except those in `leave_out`, in order."""
        stage, skipping = None, False
        for word, rest in instructions(dockerfile.read_text()):
            if word == "ARG":
                name, _, value = rest.partition("=")
                self._arguments[name] = value
            elif word == "FROM":
                source, _, name = re.sub(r"\$\{(\w+)\}", lambda match: self._arguments[match[1]], rest).partition(
                    " AS "
                )
                skipping = name in leave_out
                if not skipping:
                    stage = self.stages[name] = self._begin(source, name)
            elif not skipping and stage is not None:
                self._carry_out(stage, word, rest)

    def _replaced(self, text: str) -> str:
        return re.sub(r"\$\{(\w+)\}", lambda match: self._arguments[match[1]], text)

    def _begin(self, source: str, name: str) -> Stage:
        root = self._home / name
        if source in self.stages:
            return self.stages[source].inherited(root)
        base = self._home / "base"
        if not base.exists():
            self._make_base(base)
        return Stage(base).inherited(root)

    def _carry_out(self, stage: Stage, word: str, rest: str) -> None:
        match word:
            case "ENV":
                for setting in shlex.split(rest):
                    name, _, value = setting.partition("=")
                    stage.environment[name] = value.replace("$PATH", PATH)
            case "WORKDIR":
                stage.folder = rest
                (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                stage.user = rest
            case "COPY":
                self._copy(stage, shlex.split(rest))
            case "RUN":
                run(stage, ["sh", "-c", rest], **self._build_environment)
            case _ if word in METADATA:
                stage.metadata[word] = rest
            case _:
                raise ValueError(f"the instruction {word} is not supported")

    def _copy(self, stage: Stage, words: list[str]) -> None:
        options = dict(word[2:].split("=") for word in words if word.startswith("--"))
        *sources, target = [word for word in words if not word.startswith("--")]
        origin = self.stages[options["from"]].root if "from" in options else REPOSITORY
        into = stage.root / (target if target.startswith("/") else f"{stage.folder}/{target}").lstrip("/")
        for source in sources:
            path = origin / source.lstrip("/")
            if path.is_dir():
                shutil.copytree(
                    path, into, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                place = into / path.name if target.endswith("/") else into
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)
        if "chown" in options:
            subprocess.run(["chown", "-R", options["chown"], into], check=True)


def run(stage: Stage, command: list[str], **environment: str) -> None:
    """Run a command in a stage until it ends; fail with its output if its status is not 0."""
    done = subprocess.run(chrooted(stage, command, environment), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def chrooted(
    stage: Stage, command: list[str], environment: dict[str, str] | None = None, *, read_only: bool = False
) -> list[str]:
    """Return the command line that runs a command in a stage, as its user and with the image's environment.

    `environment` is added to it. If `read_only`, everything except an empty /tmp is read-only.
    """
    settings = {"PATH": PATH, "HOME": "/tmp", **stage.environment, **(environment or {})}  # noqa: S108
    root = shlex.quote(str(stage.root))
    mounts = [f"mount --bind {root} {root}"]
    if read_only:
        mounts += [f"mount -o remount,ro,bind {root}", f"mount -t tmpfs tmpfs {root}/tmp"]  # noqa: S108
    exactly = ["env", "-i", *(f"{name}={value}" for name, value in settings.items())]
    inside = shlex.join([*exactly, "sh", "-c", f'cd {shlex.quote(stage.folder)} && exec "$@"', "sh", *command])
    line = " && ".join([*mounts, f"exec chroot --userspec={stage.user} {root} {inside}"])
    return ["unshare", "--mount", "sh", "-c", line]
