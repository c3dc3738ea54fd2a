"""What the extra ``[worker]`` brings and the base install lacks."""

from collections.abc import Iterable
from importlib.util import find_spec

EXTRA = "minitron-nas[worker]"

LIBRARY = (
    "accelerate",
    "datasets",
    "filelock",
    "gguf",
    "pyarrow",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)
"""What the commands of ``minitron`` import."""
WORKER = (*LIBRARY, "mlflow", "ray")
"""What running a search imports."""


def missing(modules: Iterable[str]) -> list[str]:
    """Return which of these modules this Python lacks."""
    return [name for name in modules if find_spec(name) is None]
