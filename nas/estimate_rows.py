"""An estimate as rows of what and how much, which the command line and the dashboard share."""

from datetime import timedelta

from nas import wording
from nas.axes import Sizes
from nas.budget import Span
from nas.estimate import Estimate, PromotionEstimate

Row = tuple[str, str]


def estimate_rows(found: Estimate) -> list[Row]:
    """Return what there is to say of an estimate, in reading order."""
    trial, memory = found.trial, found.trial.memory
    parts = (
        ("weights", memory.weights), ("gradients", memory.gradients), ("optimiser", memory.optimizer),
        ("activations", memory.activations), ("logits", memory.logits), ("teacher", memory.teacher),
    )  # fmt: skip
    teacher = (
        "asked live, beside each trial"
        if found.is_teacher_live
        else f"asked once, answers cached: {wording.in_bytes(found.teacher_cache_bytes)}"
    )
    each = f" in each of {trial.processes} processes" if trial.processes > 1 else ""
    host = f"at most {wording.in_bytes(trial.host_bytes)}{each}"
    if trial.parent_bytes:
        host += f", the parent's {wording.in_bytes(trial.parent_bytes)} included"
    rows = [
        (
            "architectures",
            f"{found.num_feasible:,} feasible, {_span(found.parameters, wording.count)} parameters",
        ),
        *(
            (f"architectures: {wording.AXES[name]}", f"{_span(sizes, str)}, {sizes.number:,} sizes")
            for name, sizes in found.sizes.items()
            if sizes.number > 1
        ),
        *(
            (f"architectures: {words.name}", _span(found.costs[name], words.number))
            for name, words in wording.COSTS.items()
            if name in found.costs
        ),
        ("teacher", teacher),
        *([("correction: work", wording.work(found.correction_flops))] if found.correction_flops else []),
        ("students learn from", found.learnt_from),
        ("trial: tokens", f"{trial.num_tokens:,}"),
        ("trial: work", _span(trial.flops, wording.work)),
        (
            "trial: memory",
            f"at most {wording.in_bytes(memory.total)}{each}: "
            + ", ".join(f"{name} {wording.in_bytes(size)}" for name, size in parts if size),
        ),
        ("preparation: memory", f"at most {wording.in_bytes(trial.preparation_bytes)}"),
        ("worker: host", host),
        ("trial: state", _span(trial.state_bytes, wording.in_bytes)),
        ("trial: student", _span(trial.student_bytes, wording.in_bytes)),
        ("search: trials", f"{found.num_trials} and {found.num_baselines} baselines"),
        ("search: tokens", f"about {wording.count(found.num_tokens)}"),
        *([("search: measured before", _reuse(found))] if found.reusable else []),
        (
            "search: work",
            f"about {wording.work(found.flops)}, {wording.work(found.preparation_flops)} of it to prepare",
        ),
        ("search: disk", f"at most {wording.in_bytes(found.disk_bytes)}"),
    ]
    if found.num_finalists:
        students = (
            f"the best {found.num_finalists} students" if found.num_finalists > 1 else "the best student"
        )
        rows.append(("search: tasks", f"for the teacher and {students}, not counted above"))
    rows += _promotion_rows(found.promotion) if found.promotion else []
    rows += [("not checked", what) for what in found.unchecked]
    if found.rate is None or found.hours is None or trial.seconds is None:
        return [*rows, ("time", "not known: state --device-flops, or let a first search measure it")]
    return [
        *rows,
        ("rate", f"{wording.work(found.rate.flops_per_second)}/s, {found.rate.source}"),
        ("trial: time", f"about {wording.duration(timedelta(seconds=trial.seconds))}"),
        ("search: time", f"about {wording.duration(timedelta(hours=found.hours))}"),
    ]


def _promotion_rows(found: PromotionEstimate) -> list[Row]:
    """Return what the promotion of the best takes beside all else."""
    trial, students = found.trial, f"{found.num_students} student{'s' if found.num_students > 1 else ''}"
    answers = "a live teacher" if found.is_teacher_live else wording.in_bytes(found.teacher_cache_bytes)
    each = f" in each of {trial.processes} processes" if trial.processes > 1 else ""
    time = f", about {wording.duration(timedelta(hours=found.hours))}" if found.hours is not None else ""
    tokens = f"{students} for {trial.num_tokens:,} each, {wording.count(found.num_tokens)} in all{time}"
    cost = (
        f"about {wording.work(found.flops)}, at most {wording.in_bytes(trial.memory.total)} of memory{each}, "
        f"{wording.in_bytes(found.disk_bytes)} of disk, answers: {answers}"
    )
    return [("promotion: tokens", tokens), ("promotion: cost", cost)]


def _reuse(found: Estimate) -> str:
    assert found.reusable is not None
    known, tokens = found.reusable.num_known, found.trial.num_tokens
    if not known:
        return "none of the architectures that fit"
    return (
        f"{known:,} of the architectures that fit, each saves {tokens:,} tokens if it is proposed: at most "
        f"{wording.count(found.reusable.most_tokens)}, while parent and data are as they were"
    )


def _span(span: Span | Sizes, words: "wording.Words") -> str:
    least, most = words(span.least), words(span.most)
    return least if least == most else f"{least} to {most}"
