"""The routes of the browser modules, under the broker's prefix."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
}
ENTRIES = (
    "broker-upload.js",
    "broker-upload.d.ts",
    "broker-playback.js",
    "broker-playback.d.ts",
    "broker-uppy.js",
    "broker-uppy.d.ts",
    "checksum-worker.js",
)
"""The modules that an application names; they import the others."""
IMPORTED = (
    "checksum.js",
    "upload/batch.js",
    "upload/broker.js",
    "upload/errors.js",
    "upload/form.js",
    "upload/lanes.js",
    "upload/parts.js",
    "upload/patience.js",
    "upload/progress.js",
    "upload/transfer.js",
    "upload/unfinished.js",
    "upload/upload.js",
    "upload/video-types.js",
    "upload/waiting.js",
)
MODULES = (*ENTRIES, *IMPORTED)
_IMPORT = re.compile(r'(?<= from ")\.{1,2}/[\w./-]+\.js(?=";)')
_PUBLIC = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file, ready to serve."""

    body: bytes
    media_type: str
    etag: str

    def answer(self, request: Request, headers: Mapping[str, str]) -> Response:
        """Return the file, or 304 if the client has this version (RFC 9110, section 13.1.2)."""
        headers = {**headers, "ETag": self.etag}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
        if known & {self.etag, "*"}:
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type=self.media_type)


def read_assets(folder: Traversable, names: Iterable[str]) -> dict[str, Asset]:
    """Read these files of a package's folder; the media type follows from the extension."""
    assets = {}
    for name in names:
        body = folder.joinpath(name).read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        assets[name] = Asset(body, MEDIA_TYPES[name[name.rindex(".") :]], etag)
    return assets


def web_router() -> APIRouter:
    """Return the routes of the browser modules: public, cached, and readable from any origin.

    Every import names the version of all modules together, so that no cache mixes those of two releases.
    """
    router = APIRouter(include_in_schema=False)
    assets = read_assets(files("broker") / "web", MODULES)
    version = hashlib.sha256("".join(asset.etag for asset in assets.values()).encode()).hexdigest()[:16]
    for name, asset in assets.items():
        if name.endswith(".js"):
            text = _IMPORT.sub(lambda path: f"{path[0]}?v={version}", asset.body.decode())
            asset = replace(asset, body=text.encode(), etag=f'"{version}-{asset.etag[1:]}')
        unversioned = "public, max-age=3600, stale-while-revalidate=86400" if name in ENTRIES else "no-cache"
        serve = _route(asset, version, unversioned)
        router.add_api_route(f"/{name}", serve, methods=["GET", "HEAD"], name=name)
    return router


def _route(asset: Asset, version: str, unversioned: str) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of a module; `unversioned` is how it is cached if its address names no version.

    During an upgrade, a replica may be asked for the version of another one.
    """

    async def serve(request: Request) -> Response:
        match request.query_params.get("v"):
            case None:
                cached = unversioned
            case asked if asked == version:
                cached = "public, max-age=31536000, immutable"
            case _:
                cached = "no-cache"
        return asset.answer(request, {**_PUBLIC, "Cache-Control": cached})

    return serve
