"""Takes the winner home: an ordinary Hugging Face checkpoint with a model card, proved by reloading it.

Knows no Ray; runs in a worker process.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from minitron.card import PLAN_FILE, Recipe, model_card, pruning_facts
from minitron.checkpoint import load_parent
from minitron.files import link_or_copy, new_directory
from minitron.importance import ImportanceScores
from minitron.parents import parent_architecture
from minitron.plan import PruningPlan, plan_pruning
from minitron.progress import Progress, Report
from minitron.verify import verify_reload
from nas.layout import student_of, winner_directory
from nas.promotion import Promotion
from nas.search import Search, SearchSpec
from nas.trial import Trial
from nas.wording import model
from workers.device import use_threads
from workers.report import Prepared


def export_winner(
    search: Search, line: Sequence[Trial], prepared: Prepared, root: Path, report: Report
) -> str:
    """Write the winner's checkpoint, prove it, and return its path below ``root``.

    Args:
        search: Whose winner.
        line: The trials that made it, see ``nas.promoting.lineage``; the winner is the last.
        prepared: What the search's own trials are made from.
        root: The artifact root.
        report: Told how far that is.

    Raises:
        ArtifactMismatch: It does not come back as what it was saved from.
        OutOfSpace: The disk is full.
    """
    use_threads(search.spec)
    report(Progress(stage="exporting the winner"))
    winner = line[-1]
    directory = winner_directory(root, search.id, winner.number if winner.promotion else None)
    # What an earlier process left may be complete, or not have been proved.
    shutil.rmtree(directory, ignore_errors=True)
    with new_directory(directory) as scratch:
        for path in student_of(root, winner).iterdir():
            # The weights take no space twice; what people may edit does.
            (link_or_copy if path.suffix == ".safetensors" else shutil.copyfile)(path, scratch / path.name)
        scores = ImportanceScores.load(prepared.scores_path, expected_fingerprint=prepared.scores_fingerprint)
        plan = plan_pruning(scores, winner.architecture, search.spec.pruning)
        (scratch / PLAN_FILE).write_text(json.dumps(plan.as_json()), encoding="utf-8")
        (scratch / "README.md").write_text(_card(search, line, prepared, plan), encoding="utf-8")
    student = load_parent(directory)
    report(Progress(stage="reloading the winner in a fresh process"))
    verify_reload(directory, student, expected_parameters=winner.architecture.parameter_count)
    return directory.relative_to(root).as_posix()


def _card(search: Search, line: Sequence[Trial], prepared: Prepared, plan: PruningPlan) -> str:
    spec, first, winner = search.spec, line[0], line[-1]
    promotions = [trial.promotion for trial in line if trial.promotion]
    return model_card(
        title=f"{spec.name or search.id}: {winner.architecture.name}",
        parent=spec.parent,
        parent_fingerprint=prepared.parent_fingerprint,
        before=parent_architecture(str(prepared.parent_dir)),
        after=winner.architecture,
        recipes={
            "data": spec.data,
            "calibration": spec.calibration,
            "pruning": spec.pruning,
            "distillation": spec.distillation,
            "training": spec.training,
            **({"correction": spec.correction.training(spec.training)} if spec.correction else {}),
            **_promoted_by(promotions, spec),
        },
        losses={
            "parent": prepared.parent_loss,
            **({"corrected parent": prepared.corrected_loss} if prepared.corrected_loss else {}),
            **_losses(line),
        },
        origin={"search": search.id, "trial": str(winner.number)}
        | {
            f"promotion, trial {each.number}": f"the student of trial {each.promoted_from}, {_STARTS[each.promotion.start]}"
            for each in line
            if each.promotion
        }
        | ({"trained by": str(first.reused_from)} if first.reused_from else {})
        | (
            {"teacher": f"corrected alongside, in {len(prepared.stages) - 1} stages"}
            if prepared.stages
            else {}
        )
        | pruning_facts(plan, scores=prepared.scores_fingerprint),
        scores={model(each.trial_number): each.scores for each in search.evaluated},
    )


_STARTS = {"student": "retrained further", "pruned": "pruned anew and retrained"}


def _promoted_by(promotions: Sequence[Promotion], spec: SearchSpec) -> dict[str, Recipe]:
    """Return the recipes of the promotions of a line, by what the card calls them."""
    recipes: dict[str, Recipe] = {}
    for number, promotion in enumerate(promotions, start=1):
        name = "promotion" if len(promotions) == 1 else f"promotion {number}"
        recipes[f"{name}, training"] = promotion.training
        recipes[f"{name}, distillation"] = promotion.distillation or spec.distillation
    return recipes


def _losses(line: Sequence[Trial]) -> dict[str, float]:
    """Return the held-out losses of a student on its way, in its order."""
    losses: dict[str, float] = {}
    for trial in line:
        assert trial.measurement is not None, f"trial {trial.number}: {trial.state}"
        losses.setdefault("student before retraining", trial.measurement.loss_before_retraining)
        name = "student" if trial is line[-1] else f"student of trial {trial.number}"
        losses[name] = trial.measurement.loss
    return losses
