"""A family of sizes in sequence: each cut from the nearest larger one, each taught by the largest model of all.

So the papers went from 15 B over 8 B to 4 B. A size that is complete is taken from the disk, one that was
interrupted goes on. Knows no command line.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from transformers import PreTrainedModel

from minitron.architecture import Architecture
from minitron.card import PLAN_FILE, Recipe, model_card, pruning_facts
from minitron.checkpoint import fingerprint, load_parent, save_checkpoint
from minitron.data import Blocks
from minitron.device import pick_device
from minitron.errors import ArtifactMismatch
from minitron.evaluate import held_out_loss
from minitron.importance import METRIC_VERSION, measure_importance
from minitron.parents import parent_architecture
from minitron.plan import plan_pruning
from minitron.progress import Progress, Report
from minitron.prune import prune
from minitron.recipe import CalibrationRecipe, DataRecipe, DistillationRecipe, TrainingRecipe
from minitron.resumable import forget, train_through
from minitron.sizes import nearest
from minitron.teacher import Teacher
from minitron.train import Retraining
from minitron.verify import verify_reload

MADE_FILE = "compression.json"
"""What a size was made from and what came of it, beside its card."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ancestor:
    """A model on the way from the parent to a size."""

    name: str
    fingerprint: str
    loss: float
    """Held-out nats per token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One size, complete on the disk."""

    architecture: Architecture
    directory: Path
    lineage: tuple[Ancestor, ...]
    """From the parent to this size itself."""
    loss_before_retraining: float

    @property
    def loss(self) -> float:
        """Held-out nats per token."""
        return self.lineage[-1].loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipes:
    """How every size of a family is made."""

    data: DataRecipe
    calibration: CalibrationRecipe
    distillation: DistillationRecipe
    training: TrainingRecipe

    @property
    def named(self) -> dict[str, Recipe]:
        """By what they say, as a card shows them."""
        return {
            "data": self.data, "calibration": self.calibration, "distillation": self.distillation,
            "training": self.training,
        }  # fmt: skip


class Compression:
    """A family in the making.

    Args:
        name: What the parent is called.
        parent_dir: Its checkpoint.
        blocks: Calibration, training and held-out blocks that serve every size.
        recipes: What the blocks were made from, and how is calibrated, distilled and trained.
        answers: Makes the teacher, from the parent's model, when the first size must be taught.
        output: Where a directory for each size is made.
    """

    def __init__(
        self,
        name: str,
        parent_dir: Path,
        blocks: Blocks,
        recipes: Recipes,
        *,
        answers: Callable[[PreTrainedModel], Teacher],
        output: Path,
        report: Report,
    ) -> None:
        self._name = name
        self._parent_dir = parent_dir
        self._blocks = blocks
        self._recipes = recipes
        self._answers = answers
        self._output = output
        self._tell = report
        self._stage = ""

    def sizes(self, targets: Sequence[Architecture]) -> Iterator[Size]:
        """Make one size after another, from large to small, and give each when it is complete.

        Raises:
            ArtifactMismatch: A directory holds something else, or a size does not come back as it was saved.
            DivergedTraining: A loss or a gradient is not finite.
            OutOfSpace: The disk is full.
        """
        root = Ancestor(name=self._name, fingerprint=fingerprint(self._parent_dir), loss=self._parent_loss)
        parent = parent_architecture(str(self._parent_dir))
        made: dict[Architecture, tuple[Path, tuple[Ancestor, ...]]] = {parent: (self._parent_dir, (root,))}
        for target in targets:
            source = nearest(target, list(made))
            self._stage = f"{target.name} from {source.name}"
            size = self._made(target, *made[source])
            made[target] = (size.directory, size.lineage)
            yield size

    def _made(self, target: Architecture, source: Path, lineage: tuple[Ancestor, ...]) -> Size:
        directory = self._output / target.name
        key = self._key(target, lineage)
        if not directory.exists():
            self._make(target, source, lineage, directory, key)
        else:
            self._report(Progress(stage="made", is_cached=True))
        path = directory / MADE_FILE
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if found.get("key") != key:
            raise ArtifactMismatch(
                f"{directory}: found what was made from something else, allowed: the same parent, data and recipes, "
                "or another --output"
            )
        own = Ancestor(name=target.name, fingerprint=fingerprint(directory), loss=found["loss"])
        return Size(
            architecture=target,
            directory=directory,
            lineage=(*lineage, own),
            loss_before_retraining=found["loss_before_retraining"],
        )

    def _make(
        self, target: Architecture, source: Path, lineage: tuple[Ancestor, ...], directory: Path, key: str
    ) -> None:
        """Measure, prune, distil, save and prove one size."""
        model = self._parent if source == self._parent_dir else self._loaded(source)
        scores = measure_importance(
            model,
            self._blocks.calibration_NT,
            self._recipes.calibration,
            fingerprint=lineage[-1].fingerprint,
            report=self._report,
        )
        plan = plan_pruning(scores, target)
        student = prune(model, plan)
        del model
        before = held_out_loss(student, self._blocks.validation_NT, report=self._report)
        training, state = self._recipes.training, self._output / f".{target.name}.state" / key
        retraining = Retraining(
            student, self._blocks.training_NT, self._teacher,
            training=training, distillation=self._recipes.distillation, device=pick_device(),
        )  # fmt: skip
        train_through(
            retraining,
            total=training.num_steps(self._recipes.data.sequence_length) * retraining.step_tokens,
            stage="retraining",
            state=state,
            report=self._report,
        )
        loss = held_out_loss(student, self._blocks.validation_NT, report=self._report)
        card = self._card(target, lineage, pruning_facts(plan, scores=f"of {lineage[-1].name}"), before, loss)
        made = {"key": key, "loss": loss, "loss_before_retraining": before}
        # It gets its name when it has been proved: what has the name is complete.
        proving = self._output / f".{target.name}.proving"
        forget(proving)
        save_checkpoint(
            student,
            proving,
            companions=self._parent_dir,
            card=card,
            others={PLAN_FILE: json.dumps(plan.as_json()), MADE_FILE: json.dumps(made, indent=1)},
        )
        self._report(Progress(stage="reloading in a fresh process"))
        verify_reload(proving, student, expected_parameters=target.parameter_count)
        proving.rename(directory)
        forget(state.parent)

    def _card(
        self,
        target: Architecture,
        lineage: tuple[Ancestor, ...],
        facts: Mapping[str, str],
        before: float,
        loss: float,
    ) -> str:
        steps = {
            f"step {number}: from {ancestor.name}": f"{ancestor.fingerprint}, {ancestor.loss:.4f} nats per token"
            for number, ancestor in enumerate(lineage, 1)
        }
        return model_card(
            title=target.name,
            parent=self._name,
            parent_fingerprint=lineage[0].fingerprint,
            before=parent_architecture(str(self._parent_dir)),
            after=target,
            recipes=self._recipes.named,
            losses={"parent": lineage[0].loss, "student before retraining": before, "student": loss},
            origin=steps | dict(facts),
        )

    def _key(self, target: Architecture, lineage: tuple[Ancestor, ...]) -> str:
        parts = [
            target.name, [each.fingerprint for each in lineage], self._blocks.fingerprint, METRIC_VERSION,
            {name: asdict(recipe) for name, recipe in self._recipes.named.items()},
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    @cached_property
    def _parent(self) -> PreTrainedModel:
        return self._loaded(self._parent_dir)

    @cached_property
    def _parent_loss(self) -> float:
        return held_out_loss(self._parent, self._blocks.validation_NT, report=self._report)

    @cached_property
    def _teacher(self) -> Teacher:
        return self._answers(self._parent)

    def _loaded(self, directory: Path) -> PreTrainedModel:
        return load_parent(directory, device=pick_device())

    def _report(self, progress: Progress) -> None:
        self._tell(
            replace(progress, stage=f"{self._stage}: {progress.stage}" if self._stage else progress.stage)
        )
