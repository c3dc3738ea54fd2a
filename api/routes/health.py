"""Is the process there, can it serve, and how is it doing?"""

from fastapi import APIRouter, Request, Response

from api.dependencies import Numbers, WholeService
from api.errors import problems
from api.metrics import OPENMETRICS, PLAIN
from api.schemas.base import Health

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="get_health")
async def get_health() -> Health:
    """The process runs."""
    return Health(status="ok")


@router.get("/readyz", operation_id="get_readiness", responses=problems(503))
def get_readiness(service: WholeService) -> Health:
    """The database answers and has the present schema."""
    service.ping()
    return Health(status="ok")


@router.get(
    "/metrics",
    operation_id="get_metrics",
    response_class=Response,
    responses={
        200: {"content": {media_type: {"schema": {"type": "string"}} for media_type in (PLAIN, OPENMETRICS)}}
    },
)
def get_metrics(request: Request, numbers: Numbers) -> Response:
    """Numbers for Prometheus: of answers, and of what is stored as it was some seconds ago at most.

    Also given while the database is away, which `nas_database_up` tells.
    """
    content, media_type = numbers.exposition(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": media_type})
