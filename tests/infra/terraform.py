"""Terraform as a child process, offline: the provider's plugin must be on this machine."""

import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from tests.infra.programs import do_without, require

MODULE = Path(__file__).parents[2] / "infra" / "terraform"
PLUGIN = "terraform-provider-aws_v*"
SECONDS = 420
"""The timeout of one command; the provider itself waits up to a minute for SQS and for a lifecycle."""


@cache
def plugin_dir() -> Path | None:
    """Return the folder for `terraform init -plugin-dir`, or None if there is none.

    TF_PLUGIN_DIR names it; otherwise the usual places are searched. Its subfolders are host, namespace, type, version
    and platform.
    """
    if named := os.environ.get("TF_PLUGIN_DIR"):
        return Path(named)
    places = [place for place in ("/opt", "/usr/share", "/usr/local/share", str(Path.home())) if Path(place).is_dir()]
    command = ["find", *places, "-xdev", "-maxdepth", "9", "-type", "f", "-name", PLUGIN]
    plugins = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return Path(plugins[0]).parents[5] if plugins else None


def require_terraform() -> None:
    """Skip the test, or fail it in CI, if Terraform or its provider is missing."""
    require("terraform")
    if plugin_dir() is None:
        do_without("terraform-provider-aws")


class Workspace:
    """A copy of the module (or of one folder in it) with its variables and state."""

    def __init__(self, home: Path, *, folder: str = ".", variables: dict[str, Any] | None = None) -> None:
        shutil.copytree(MODULE, home, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        self.home = home / folder
        if variables is not None:
            self.set(variables)

    def set(self, variables: dict[str, Any]) -> None:
        """Replace the values of the variables."""
        (self.home / "terraform.tfvars.json").write_text(json.dumps(variables))

    @classmethod
    def of_variables(cls, home: Path, variables: dict[str, Any]) -> "Workspace":
        """Return a workspace of the module's variables alone, which can be planned at once, without the provider."""
        workspace = cls(home, variables=variables)
        for file in workspace.home.glob("*.tf"):
            if file.name != "variables.tf":
                file.unlink()
        return workspace

    def init(self) -> None:
        """Initialize the workspace with the plugin of this machine."""
        self.run("init", "-input=false", f"-plugin-dir={plugin_dir()}", "-backend=false")

    def run(self, *command: str, statuses: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
        """Run Terraform until it ends; fail with its output on an unexpected status."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "AWS_"))}
        done = subprocess.run(
            ["terraform", *command],
            cwd=self.home,
            env={**environment, "CHECKPOINT_DISABLE": "1", "GOGC": "400", "TF_CLI_ARGS": "-no-color"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode in statuses, f"terraform {' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done

    def plan(self) -> tuple[int, dict[str, Any]]:
        """Plan; return the status, 0 (no changes) or 2 (changes), and the plan."""
        status = self.run("plan", "-input=false", "-detailed-exitcode", "-out=plan", statuses=(0, 2)).returncode
        plan: dict[str, Any] = json.loads(self.run("show", "-json", "plan").stdout)
        return status, plan

    def apply_plan(self) -> None:
        """Apply the last plan."""
        self.run("apply", "-input=false", "plan")

    def apply(self, *addresses: str) -> None:
        """Plan and apply these resources, with those that they depend on."""
        self.run("apply", "-input=false", "-auto-approve", *(f"-target={address}" for address in addresses))

    def destroy(self) -> None:
        """Destroy every resource."""
        self.run("destroy", "-input=false", "-auto-approve")

    def outputs(self) -> dict[str, Any]:
        """Return the outputs' values."""
        return {name: output["value"] for name, output in json.loads(self.run("output", "-json").stdout).items()}
