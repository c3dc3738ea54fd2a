"""What a student learns from, where the teacher's answers come from, and what these serve."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from minitron.errors import InvalidRecipe, UnservedLoss
from minitron.recipe.checks import require, require_positive

TeacherSource = Literal["auto", "cached", "live"]
CacheForm = Literal["top_k", "hidden"]
Loss = Literal["forward_kl", "reverse_kl", "mse", "cosine"]
Intermediate = Literal["auto", "none", "output", "output_embedding"]
State = Literal["output", "embedding"]
StateLoss = Literal["cosine", "mse"]

Temperatures = Literal["any", "1"]
_ON_LOGITS: dict[Loss, Temperatures] = {"forward_kl": "any", "reverse_kl": "any", "mse": "1", "cosine": "1"}
SERVED: Mapping[Literal["live", "hidden", "top_k"], Mapping[Loss, Temperatures]] = MappingProxyType(
    {"live": _ON_LOGITS, "hidden": _ON_LOGITS, "top_k": {"forward_kl": "1", "reverse_kl": "1"}}
)
"""Which losses on logits each teacher source serves, and at which temperatures; all else is refused. The top-k form
keeps log-probabilities and the mass of the rest: of them any divergence of distributions can be had, at no other
temperature. Of squared differences and angles of logits, temperature divides out."""

SERVES_STATES = "live"
"""The teacher source of losses on hidden states; nothing of these is kept."""

LEAST_LAYERS = 3
"""Of a model whose state two layers before the last is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationRecipe:
    """What the student learns from, and where the teacher's answers come from."""

    loss: Loss = "forward_kl"
    """On logits, of each token: KL(teacher || student), which the papers found best; KL(student || teacher); the mean
    squared difference of the logits; or 1 minus the cosine of the angle between them."""
    temperature: float = 1.0
    """Divides the logits of both before a KL, which is multiplied by its square."""
    label_weight: float = 0.0
    """Weight of the next-token loss beside the distillation loss; 0 trains on the teacher alone."""
    intermediate: Intermediate = "auto"
    """Hidden states that the student learns from beside logits: none; the output of the last layer but two, compared
    with the teacher's last but two; or that and the embedding. ``auto``, as the papers: output and embedding where
    depth falls by more than a fifth, else none; and none where the teacher is not live."""
    intermediate_loss: StateLoss = "cosine"
    """On hidden states, which one shared matrix takes to the teacher's width where they differ. Its weight makes it as
    large as the loss on logits, in every micro-batch anew."""
    teacher: TeacherSource = "auto"
    cache_form: CacheForm = "top_k"
    """``top_k``: log-probabilities of the k likeliest tokens and the mass of the rest.
    ``hidden``: final hidden states, exact, through the teacher's head."""
    top_k: int = 128
    max_cache_bytes: int = 20_000_000_000
    """Above this ``auto`` asks the teacher live and ``cached`` is refused."""

    def __post_init__(self) -> None:
        require_positive("distillation.temperature", self.temperature)
        require(
            0 <= self.label_weight < math.inf,
            "distillation.label_weight", self.label_weight, "at least 0, and finite",
        )  # fmt: skip
        require(self.top_k >= 1, "distillation.top_k", self.top_k, "at least 1")
        self._require_served()

    def _require_served(self) -> None:
        """Raise UnservedLoss for what the teacher source cannot serve; see ``SERVED``."""
        served = SERVED["live" if self.teacher == "live" else self.cache_form]
        instead = "" if served is _ON_LOGITS else "; set cache_form to hidden or teacher to live"
        if self.loss not in served:
            raise UnservedLoss(
                f"distillation.loss: found {self.loss}, allowed with cache_form {self.cache_form}: "
                f"{', '.join(served)}{instead}"
            )
        if served[self.loss] == "1" and self.temperature != 1.0:
            what = f"cache_form {self.cache_form}" if instead else f"loss {self.loss}"
            raise UnservedLoss(
                f"distillation.temperature: found {self.temperature}, allowed with {what}: 1{instead}"
            )
        if self.intermediate not in {"auto", "none"} and self.teacher != SERVES_STATES:
            raise UnservedLoss(
                f"distillation.intermediate: found {self.intermediate}, allowed with teacher {self.teacher}: "
                f"auto, none; set teacher to {SERVES_STATES}"
            )

    def states(self, *, student_layers: int, parent_layers: int, is_live: bool) -> tuple[State, ...]:
        """Return the hidden states that a student of some depth learns from beside logits.

        Raises:
            InvalidRecipe: Some were asked for, and a model has too few layers.
        """
        found = min(student_layers, parent_layers)
        if self.intermediate == "auto":
            has_fallen = 5 * (parent_layers - student_layers) > parent_layers
            is_served = is_live and found >= LEAST_LAYERS
            return ("output", "embedding") if has_fallen and is_served else ()
        if self.intermediate == "none":
            return ()
        require(
            found >= LEAST_LAYERS,
            "distillation.intermediate", self.intermediate, f"auto or none for a model of {found} layers",
        )  # fmt: skip
        return ("output",) if self.intermediate == "output" else ("output", "embedding")

    def described(self, states: Sequence[State]) -> str:
        """Return in words what a student learns from that learns from these hidden states, if any."""
        what = [f"{self.loss} on logits"]
        if self.temperature != 1.0:
            what[0] += f" at temperature {self.temperature:g}"
        if self.label_weight:
            what.append(f"labels with weight {self.label_weight:g}")
        if states:
            what.append(f"{self.intermediate_loss} on hidden states ({', '.join(states)})")
        return ", ".join(what)

    def cache_bytes(self, *, num_tokens: int, hidden_size: int) -> int:
        """Bytes that the teacher's answers take on disk."""
        return num_tokens * (self.top_k * 6 + 4 if self.cache_form == "top_k" else hidden_size * 4)

    def asks_live(self, *, num_tokens: int, hidden_size: int) -> bool:
        """Return whether the teacher runs beside the student instead of being cached.

        Raises:
            InvalidRecipe: ``cached`` was asked for and does not fit ``max_cache_bytes``.
        """
        needed = self.cache_bytes(num_tokens=num_tokens, hidden_size=hidden_size)
        fits = needed <= self.max_cache_bytes
        if self.teacher == "cached" and not fits:
            raise InvalidRecipe(
                "distillation.max_cache_bytes",
                f"found {self.max_cache_bytes}, allowed for this recipe: at least {needed}; or teacher live",
            )
        return self.teacher == "live" or not fits
