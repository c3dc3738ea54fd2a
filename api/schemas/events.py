"""What happened, as REST tells it."""

from datetime import datetime
from typing import Any

from api.schemas.base import Resource


class EventResource(Resource):
    """Something that happened; ``data`` is the changed object."""

    sequence: int
    search_id: str
    kind: str
    trial_number: int | None
    at: datetime
    data: dict[str, Any]
