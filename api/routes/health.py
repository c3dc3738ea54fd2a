"""Is the process there, and can it serve?"""

from fastapi import APIRouter

from api.dependencies import Service
from api.errors import problems
from api.schemas import Health

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="get_health")
async def get_health() -> Health:
    """The process runs."""
    return Health(status="ok")


@router.get("/readyz", operation_id="get_readiness", responses=problems(503))
def get_readiness(service: Service) -> Health:
    """The database answers and has the present schema."""
    service.ping()
    return Health(status="ok")
