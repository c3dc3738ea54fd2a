"""What the extras ``[worker]`` and ``[int8]`` bring and the base install lacks."""

from collections.abc import Iterable
from importlib.util import find_spec

EXTRA = "minitron-nas[worker]"
EXTRA_INT8 = "minitron-nas[worker,int8]"

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
INT8 = ("torchao",)
"""What int8 moments import; an extra of its own, because transformers imports it wherever it is, which takes
seconds."""


def missing(modules: Iterable[str]) -> list[str]:
    """Return which of these modules this Python lacks."""
    return [name for name in modules if find_spec(name) is None]
