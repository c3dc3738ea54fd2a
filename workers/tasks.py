"""What a runner has done in worker processes; torch and transformers are loaded there, and not with this module."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from minitron import hub
from minitron.progress import Report
from nas.finals import Evaluated
from nas.latency_table import LatencyTable
from nas.search import Search, SearchSpec
from nas.settings import Settings
from nas.trial import Trial
from workers import nodes
from workers.nodes import Site
from workers.report import Evaluate, Prepared


def prepare(
    spec: SearchSpec, root: Path, cache_bytes: int | None, is_shared: bool, report: Report
) -> Prepared:
    """See ``workers.artifacts.prepare``; tasks that cannot be put to anybody are told of first."""
    from workers.artifacts import prepare
    from workers.finals import require_tasks

    _confine_hub()
    require_tasks(spec, report)
    return prepare(spec, root, report, cache_bytes=cache_bytes, is_shared=is_shared)


def time_blocks(spec: SearchSpec, root: Path, is_shared: bool, report: Report) -> LatencyTable | None:
    """See ``workers.latencies.block_latencies``."""
    from workers.latencies import block_latencies

    _confine_hub()
    return block_latencies(spec, root, report, is_shared=is_shared)


def prepare_promotions(
    spec: SearchSpec, base: Prepared, root: Path, is_shared: bool, report: Report
) -> Prepared:
    """See ``workers.artifacts.prepare_promotions``."""
    from workers.artifacts import prepare_promotions

    _confine_hub()
    return prepare_promotions(spec, base, root, report, is_shared=is_shared)


def make_evaluate(spec: SearchSpec, prepared: Prepared, root: Path, site: Site | None) -> Evaluate:
    """Return what evaluates trials in this process, on a node that may run them."""
    _require_fit(site)
    if spec.resources.processes > 1:
        from workers.together import EvaluateTogether

        return EvaluateTogether(
            partial(_make_member, spec, prepared, root), spec.resources, partial(_require_fit, site)
        )
    from workers.trial import TrialEvaluator

    return TrialEvaluator(spec, prepared, root)


def _make_member(spec: SearchSpec, prepared: Prepared, root: Path, group: Any) -> Evaluate:
    # ``group`` is a minitron.sharding.Group, whose module loads torch.
    from workers.trial import TrialEvaluator

    return TrialEvaluator(spec, prepared, root, group)


def _require_fit(site: Site | None) -> None:
    if site is not None:
        nodes.require_fit(site)  # the node may have joined since the search began


def _confine_hub() -> None:
    hub.confine(Settings().hub_host_names)


def correct(spec: SearchSpec, prepared: Prepared, root: Path, report: Report) -> float:
    """See ``workers.stages.correct_alongside``."""
    from workers.stages import correct_alongside

    return correct_alongside(spec, prepared, root, report)


def bring_students(
    trials: Sequence[Trial], root: Path, make_evaluate: Callable[[], Evaluate], report: Report
) -> None:
    """See ``workers.students.bring_students``."""
    from workers.students import bring_students

    bring_students(trials, root, make_evaluate, report)


def put_tasks(
    spec: SearchSpec, students: Sequence[Trial], prepared: Prepared, root: Path, report: Report
) -> tuple[Evaluated, ...]:
    """See ``workers.finals.evaluate_finals``."""
    from workers.finals import evaluate_finals

    _confine_hub()  # tasks bring data sets of their own
    return evaluate_finals(spec, students, prepared, root, report)


def export(search: Search, line: Sequence[Trial], prepared: Prepared, root: Path, report: Report) -> str:
    """See ``workers.export.export_winner``."""
    from workers.export import export_winner

    return export_winner(search, line, prepared, root, report)
