"""The health routes: liveness, readiness, and the health of S3."""

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse

from broker.api.asgi.demands import AddressDemand
from broker.api.asgi.route import ProblemRoute
from broker.api.documentation import COUNTED, operation_id, problems
from broker.api.problems import NO_STORE
from broker.api.schemas import Alive, S3Health
from broker.api.state import services
from broker.errors import DatabaseUnavailable

router = APIRouter(route_class=ProblemRoute, tags=["health"], generate_unique_id_function=operation_id)


@router.get(
    "/health/s3",
    dependencies=[Depends(AddressDemand("health"))],
    response_model=S3Health,
    responses={**problems(*COUNTED), 503: {"model": S3Health, "description": "S3 is unavailable"}},
)
async def check_s3(request: Request) -> Response:
    """Report whether the bucket answers. The result is cached for a few seconds."""
    body = await services(request).health.s3()
    return JSONResponse(body, 200 if body["success"] else 503, NO_STORE)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_model=Alive)
async def check_alive() -> Response:
    """Report that the process is alive."""
    return JSONResponse({"success": True, "status": "alive"}, headers=NO_STORE)


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", response_model=Alive, responses=problems(DatabaseUnavailable))
async def check_ready(request: Request) -> Response:
    """Report that the process can serve: its database answers and is migrated.

    An unavailable S3 is no reason to restart the process, so it is not checked.
    """
    await services(request).store.ping()
    return JSONResponse({"success": True, "status": "ready"}, headers=NO_STORE)
