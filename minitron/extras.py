"""What the extras ``[worker]``, ``[int8]``, ``[eval]`` and ``[align]`` bring and the base install lacks."""

from collections.abc import Iterable
from importlib.util import find_spec

from minitron.errors import MissingExtra

EXTRA = "minitron-nas[worker]"
EXTRA_INT8 = "minitron-nas[worker,int8]"
EXTRA_EVAL = "minitron-nas[worker,eval]"
EXTRA_ALIGN = "minitron-nas[worker,align]"

LIBRARY = (
    "accelerate",
    "datasets",
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

EVAL = ("lm_eval",)
"""What tasks of the lm-evaluation-harness import."""
ALIGN = ("trl",)
"""What supervised fine-tuning and preference optimisation import."""


def missing(modules: Iterable[str]) -> list[str]:
    """Return which of these modules this Python lacks."""
    return [name for name in modules if find_spec(name) is None]


def require(modules: Iterable[str], extra: str, *, field: str) -> None:
    """Raise MissingExtra, naming the field or option that needs them, unless this Python has these modules."""
    if lacking := missing(modules):
        raise MissingExtra(
            f"{field}: needs {', '.join(lacking)}, which this Python lacks: pip install '{extra}'"
        )
