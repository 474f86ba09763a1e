"""The npm tarball of the browser modules: it holds every module, and an empty project can import it.

`tests/browser/test_bundles.py` runs it in Chromium, from each bundler.
"""

import json
import os
import re
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.readme.blocks import commands
from tests.support.npm import packages, program
from tests.support.processes import ROOT
from tests.support.web_package import WEB, packed, project

PACKAGE = json.loads((WEB / "package.json").read_text("utf-8"))
ENTRIES = [name for name in PACKAGE["exports"] if name != "./package.json"]
REACT = ROOT / "infra" / "guides" / "react.md"
LAYOUT = 'export default ({ children }) => <html lang="en"><body>{children}</body></html>;\n'
NEXT_PAGE = """
import { contentTypeOf } from "s3-media-broker-web";
import { Uploads } from "./Uploads.jsx";
export default () => <><p>{contentTypeOf({ name: "film.mp4", type: "" })}</p><Uploads /></>;
"""
CONSUMER = """
import { upload, UploadError, type TokenOptions } from "s3-media-broker-web";
import { link } from "s3-media-broker-web/playback";
import { useUpload } from "s3-media-broker-web/react";

const options: TokenOptions = { prefix: "https://api.example", getToken: () => "token" };
export const send = async (file: File): Promise<string> => {
  const media = await upload(file, options);
  return (await link(media.media_id, options)).signed_url;
};
export function Uploads(): number {
  const { uploads, add, pause } = useUpload({ ...options, onReady: (media) => console.log(media.signed_url) });
  add([new File([], "film.mp4")]);
  pause(uploads[0]?.id);
  // @ts-expect-error: the hook itself reports progress
  useUpload({ ...options, onProgress: console.log });
  return uploads.reduce((sum, { loaded }) => sum + loaded, 0);
}
// @ts-expect-error: a number is not a file
upload(1, options);
export const isOurs = (error: unknown): boolean => error instanceof UploadError;
"""


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack the browser modules."""
    return packed(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty project that has the tarball installed, and React."""
    return project(tmp_path_factory.mktemp("project"), tarball, beside=packages("react@19.3.1"))


def test_the_tarball_holds_every_module_with_readme_and_licence(tarball: Path) -> None:
    with tarfile.open(tarball) as opened:
        names = {name.removeprefix("package/") for name in opened.getnames()}
    modules = {path.relative_to(WEB).as_posix() for path in WEB.rglob("*") if path.suffix in {".js", ".ts"}}
    assert names == modules | {"package.json", "README.md", "LICENSE"}
    assert tarball.name == f"{PACKAGE['name']}-{PACKAGE['version']}.tgz"


@pytest.mark.parametrize("entry", ENTRIES)
def test_each_export_has_its_types(entry: str) -> None:
    target = PACKAGE["exports"][entry]
    assert (WEB / target["types"]).exists()
    assert target["types"] == target["default"].removesuffix(".js") + ".d.ts"


def test_the_modules_have_no_side_effects_when_they_are_imported() -> None:
    assert PACKAGE["sideEffects"] is False


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_server_without_window_can_import_each_module(installed: Path, entry: str) -> None:
    name = entry.replace(".", PACKAGE["name"], 1)
    script = f"import * as module from {json.dumps(name)}; console.log(typeof window, Object.keys(module).length)"
    ran = subprocess.run(
        [program("node"), "--input-type=module", "-e", script],
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    window, exported = ran.stdout.split()
    assert window == "undefined"
    assert int(exported) > 0


@pytest.mark.parametrize(("module", "resolution"), [("esnext", "bundler"), ("nodenext", "nodenext")])
def test_typescript_finds_the_types(installed: Path, module: str, resolution: str) -> None:
    tsc = packages("typescript@5.9.3") / "node_modules" / ".bin" / "tsc"
    (installed / "consumer.ts").write_text(CONSUMER)
    options = ["--noEmit", "--strict", "--target", "es2022", "--lib", "es2022,dom"]
    checked = subprocess.run(
        [tsc, *options, "--module", module, "--moduleResolution", resolution, "consumer.ts"],
        cwd=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.stdout, checked.returncode) == ("", 0)


@pytest.mark.timeout(600)
def test_next_renders_the_guides_component_on_the_server_and_builds_it(tarball: Path) -> None:
    tools = packages("next@16.4.6", "react@19.3.1", "react-dom@19.3.1")
    with TemporaryDirectory(prefix="app-", dir=tools) as name:
        folder = project(Path(name), tarball)
        (component,) = re.findall(r"^```jsx\n(.*?)^```", REACT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        files = {
            "next.config.js": f"export default {{ turbopack: {{ root: {json.dumps(str(tools))} }} }};\n",
            "app/layout.js": LAYOUT,
            "app/page.js": NEXT_PAGE,
            "app/app.js": 'export const prefix = "https://api.example"; export const getToken = () => "token";\n',
            "app/Uploads.jsx": f'"use client";\n{component}',
        }
        (folder / "app").mkdir()
        for path, text in files.items():
            (folder / path).write_text(text)
        built = subprocess.run(
            [tools / "node_modules" / ".bin" / "next", "build"],
            cwd=folder,
            env=os.environ | {"NEXT_TELEMETRY_DISABLED": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert built.returncode == 0, built.stdout + built.stderr
        rendered = (folder / ".next" / "server" / "app" / "index.html").read_text("utf-8")
    assert "<p>video/mp4</p>" in rendered
    assert "Your videos" in rendered


def test_the_guides_command_installs_the_tarball(tarball: Path, tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"private": true}')
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / tarball.name).write_bytes(tarball.read_bytes())
    command = ["bash", "-ec", commands("infra/clients.md", "install")]
    offline = os.environ | {"npm_config_package_lock": "false", "npm_config_offline": "true"}
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=offline)
    assert (tmp_path / "node_modules" / PACKAGE["name"] / "package.json").exists()


def test_the_repository_has_no_lock_file() -> None:
    tracked = subprocess.run(["git", "ls-files", "*lock*.json"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert tracked.stdout == ""
