"""The routes of the browser modules, under the broker's prefix."""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
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
MODULES = (
    "broker-upload.js",
    "broker-upload.d.ts",
    "broker-playback.js",
    "broker-playback.d.ts",
    "sha256-worker.js",
)
PUBLIC = {
    "Access-Control-Allow-Origin": "*",
    "Cache-Control": "public, max-age=3600, stale-while-revalidate=86400",
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
    """Return the routes of the browser modules: public, cached, and readable from any origin."""
    router = APIRouter(include_in_schema=False)
    for name, asset in read_assets(files("broker") / "web", MODULES).items():
        router.add_api_route(f"/{name}", _route(asset), methods=["GET", "HEAD"], name=name)
    return router


def _route(asset: Asset) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return asset.answer(request, PUBLIC)

    return serve
