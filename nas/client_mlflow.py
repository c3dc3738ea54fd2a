"""What a server says of MLflow, as Python; the part of ``nas.client`` that knows of it."""

from nas.connection import Connection
from nas.mlflow_links import MlflowStanding
from nas.spec import load


class MlflowCalls:
    """Calls of a client."""

    _connection: Connection

    def mlflow_standing(self, search_id: str) -> MlflowStanding:
        """Return where a search is in MLflow, and whether that is behind."""
        return load(MlflowStanding, self._connection.call("GET", f"/searches/{search_id}"))
