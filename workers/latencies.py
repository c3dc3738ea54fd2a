"""What a budget of latency goes by: blocks of the parent's family, each shape timed once on this machine and kept.

What was timed lies below the artifact root under a name made from parent, setting and machine, shared by all searches;
what a search goes by is a table of its own, which it stores. Knows no Ray; runs in a worker process, with the threads
and the device of a trial.
"""

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
import transformers

from minitron.builtin import materialize
from minitron.files import new_file
from minitron.latency import device_name, time_student
from minitron.parents import read_config
from minitron.progress import Progress, Report
from nas.disk import touch
from nas.latency_anchors import Anchors, anchors_of
from nas.latency_file import Shape, Timings, name_of
from nas.latency_table import LatencyTable, Machine
from nas.layout import latencies_directory
from nas.parent import architecture_of
from nas.search import SearchSpec
from nas.spec import dump, load
from workers.device import device_of, use_threads
from workers.keys import alone, digest

STAGE = "block latencies"
VISITS = 3
"""How often each shape is timed, with all others in between, so that a machine that is busy for a while, or grows
slower, does so to all; the median counts."""
ROWS = 8
"""Of the embedding where blocks are timed, which do not ask it."""


def block_latencies(
    spec: SearchSpec, root: Path, report: Report, *, is_shared: bool = False
) -> LatencyTable | None:
    """Return the table that the space of a spec needs; None where it has no legal size.

    Raises:
        MinitronError: A parent that cannot be had.
        InvalidSpec: More blocks than can be timed.
    """
    assert spec.budget.latency is not None, "asked of budgets of latency alone"
    use_threads(spec)
    anchors = anchors_of(spec)
    if anchors is None:
        return None
    with alone(root / "locks" / f"{digest(spec.parent)}.lock", report):
        parent_dir = materialize(spec.parent, root, report, is_shared=is_shared)
        config = read_config(str(parent_dir))
        begun = Timings(
            setting=spec.budget.latency.setting,
            machine=this_machine(spec),
            is_accelerator=spec.resources.gpus > 0,
            parent=architecture_of(spec),
        )
        path = latencies_directory(root) / f"{digest(config, dump(begun))}.json"
        touch([path])
        timings = load(Timings, json.loads(path.read_text(encoding="utf-8"))) if path.exists() else begun
        if timings.missing(anchors):
            found = timed(spec, timings, anchors, config=config, report=report)
            timings = replace(timings, nanoseconds={**timings.nanoseconds, **found})
            with new_file(path) as scratch:
                scratch.write_text(json.dumps(dump(timings)), encoding="utf-8")
        else:
            report(Progress(stage=STAGE, is_cached=True))
        return timings.table(anchors)


def this_machine(spec: SearchSpec) -> Machine:
    """Return on what a trial of a spec would compute here."""
    return Machine(
        device=device_name(device_of(spec.resources)),
        threads=torch.get_num_threads(),
        software=f"torch {torch.__version__}, transformers {transformers.__version__}",
    )


def timed(
    spec: SearchSpec, timings: Timings, anchors: Anchors, *, config: Mapping[str, object], report: Report
) -> dict[str, int]:
    """Return the nanoseconds of the shapes that are missing, by their names.

    Args:
        spec: Whose trials' device is timed.
        timings: What is known, and of what.
        anchors: What is needed.
        config: The parent's.
        report: Told how far it is.
    """
    heads_of_ends = {hidden: heads for hidden, *heads in anchors.ends}

    def time_once(shape: Shape) -> int:
        hidden, *block = shape
        neurons, heads, kv_heads = block or (anchors.neurons[0], *heads_of_ends[hidden])
        student = replace(
            timings.parent, hidden_size=hidden, intermediate_size=neurons,
            num_attention_heads=heads, num_key_value_heads=kv_heads,
        )  # fmt: skip
        if block:
            student = replace(student, vocab_size=ROWS)
        found = time_student(config, student, device=device_of(spec.resources), **asdict(timings.setting))
        return found.block if block else found.ends

    shapes = timings.missing(anchors)
    visits: dict[Shape, list[int]] = {shape: [] for shape in shapes}
    for visit in range(VISITS):
        for shape in shapes if visit % 2 == 0 else reversed(shapes):
            done = sum(map(len, visits.values()))
            report(Progress(stage=STAGE, done=done, total=VISITS * len(shapes), unit="timings"))
            visits[shape].append(time_once(shape))
    return {name_of(shape): int(statistics.median(found)) for shape, found in visits.items()}
