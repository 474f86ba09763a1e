"""The demo console of `broker dev`: static files, their Content-Security-Policy, and a form without JavaScript.

For the developer's own machine only, because these routes hand out a token. They answer only on loopback names, so that
no page can reach them by rebinding its own name to this machine (DNS rebinding).
"""

import html
from collections.abc import Awaitable, Callable
from importlib.resources import files
from string import Template
from uuid import UUID, uuid4

import httpx
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from broker.api.routes.web import Asset, read_assets
from broker.domain.origin import LOOPBACK_HOSTS, is_loopback
from broker.domain.rules import Rules

ASSETS = ("console.css", "console.js", "dom.js", "icon.svg", "library.js", "player.js", "queue.js", "row.js")
PAGE = files("broker.dev") / "page"


def demo_router(
    *, prefix: str, token: Callable[[], str], s3_origin: str, rules: Rules, link_seconds: int = 3600
) -> APIRouter:
    """Return the routes of the demo console, to be included at `/`.

    `prefix` is the path of the broker's own routes, `token` mints the page's token, `s3_origin` is the origin of S3 for
    uploads and playback, and `link_seconds` is the lifetime of the page's playback links.
    """
    headers = _headers(s3_origin)
    assets = read_assets(PAGE, ("index.html", *ASSETS))
    router = APIRouter(include_in_schema=False, dependencies=[Depends(_from_this_machine)])

    @router.get("/demo/config.json")
    async def config() -> Response:
        answer = {
            "prefix": prefix,
            "token": token(),
            "types": rules.types,
            "max_size": rules.max_size,
            "link_seconds": link_seconds,
        }
        return JSONResponse(answer, headers={**headers, "Cache-Control": "no-store"})

    @router.get("/form")
    async def choose() -> Response:
        options = "".join(f"<option>{html.escape(name)}</option>" for name in rules.types)
        return _page(headers, "Upload a video", "choose.html", key=uuid4().hex, types=_Html(options))

    @router.get("/form/upload")
    async def form(request: Request, key: str, name: str, content_type: str) -> Response:
        base = str(request.base_url).rstrip("/")
        body = {"content_type": content_type, "filename": name, "redirect_url": f"{base}/form/done"}
        # The key makes a reload return the same media instead of issuing another.
        authorized = {"Authorization": f"Bearer {token()}", "Idempotency-Key": key}
        async with httpx.AsyncClient(base_url=base, headers=authorized) as broker:
            issued = await broker.post(f"{prefix}/upload", json=body)
        answer = issued.json()
        if not issued.is_success:
            return _page(headers, "Upload refused", "trouble.html", detail=answer["detail"])
        upload = answer["upload"]
        if upload is None:
            return _page(headers, "Already uploaded", "trouble.html", detail="This form was already used.")
        fields = _Html("\n      ".join(_hidden(field, value) for field, value in upload["fields"].items()))
        members = {"action": upload["url"], "fields": fields, "content_type": content_type}
        return _page(headers, "Upload a video", "form.html", **members)

    @router.get("/form/done")
    async def done(request: Request, media_id: UUID, status: str) -> Response:
        base = str(request.base_url).rstrip("/")
        if status != "ready":
            return _page(headers, "Not uploaded", "trouble.html", detail=f"The upload is {status}.")
        async with httpx.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {token()}"}) as broker:
            link = await broker.get(f"{prefix}/{media_id}")
        if link.status_code != 200:
            return _page(headers, "No such video", "trouble.html", detail=link.json()["detail"])
        return _page(headers, "Uploaded", "done.html", media_id=str(media_id), signed_url=link.json()["signed_url"])

    for name, asset in assets.items():
        router.add_api_route("/" if name == "index.html" else f"/{name}", _route(asset, headers))
    return router


def _headers(s3_origin: str) -> dict[str, str]:
    """Return the headers of every page, with a policy that allows no inline code and no origin but this one and S3."""
    policy = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "worker-src": "'self'",
        "img-src": f"'self' {s3_origin}",
        "media-src": f"'self' {s3_origin}",
        "connect-src": f"'self' {s3_origin}",
        "form-action": f"'self' {s3_origin}",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


async def _from_this_machine(request: Request) -> None:
    peer = request.client.host if request.client else ""
    if peer not in LOOPBACK_HOSTS or not is_loopback(f"//{request.headers.get('Host', '')}"):
        raise HTTPException(403, "The demo console only answers requests from this machine to 127.0.0.1 or localhost.")


class _Html(str):
    """Text that is already HTML and is not escaped."""


def _hidden(name: str, value: str) -> str:
    return f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'


def _page(headers: dict[str, str], title: str, name: str, **members: str) -> Response:
    escaped = {key: value if isinstance(value, _Html) else html.escape(value) for key, value in members.items()}
    body = Template((PAGE / name).read_text("utf-8")).substitute(escaped)
    frame = Template((PAGE / "frame.html").read_text("utf-8"))
    page = frame.substitute(title=html.escape(title), body=body)
    return Response(page, headers={**headers, "Cache-Control": "no-store"}, media_type="text/html")


def _route(asset: Asset, headers: dict[str, str]) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        return asset.answer(request, headers)

    return serve
