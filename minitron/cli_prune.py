"""The commands ``minitron importance`` and ``minitron prune``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from minitron import calibration_options as calibrating
from minitron.calibration_options import CALIBRATION
from minitron.card import PLAN_FILE, model_card, pruning_facts
from minitron.cli_options import (
    ARTIFACTS,
    Artifacts,
    Checkpoint,
    NewDirectory,
    Threads,
    check_new,
    load_model,
    save_student,
)
from minitron.console import console_progress
from minitron.data_options import (
    DATA,
    DEFAULT_SOURCES,
    Seed,
    SequenceLength,
    Sources,
    TextField,
    data_recipe,
)
from minitron.families import resized
from minitron.parents import check_parent, check_sequence_length, parent_architecture
from minitron.recipe import CalibrationRecipe, KvHeads, PruningRecipe


def importance(
    *,
    parent: Checkpoint,
    output: Annotated[Path, typer.Option("--output", "-o", help="New safetensors file.")],
    tokens: calibrating.Tokens = CALIBRATION.num_tokens,
    batch_size: calibrating.BatchSize = CALIBRATION.batch_size,
    metric: calibrating.Metric = CALIBRATION.metric,
    sequence_aggregation: calibrating.OverSequence = CALIBRATION.sequence_aggregation,
    batch_aggregation: calibrating.OverBatch = CALIBRATION.batch_aggregation,
    steps: calibrating.Steps = CALIBRATION.steps,
    hidden: calibrating.Narrowest = None,
    intermediate: calibrating.Narrowest = None,
    heads: calibrating.Narrowest = None,
    depth_metric: calibrating.Layers = CALIBRATION.depth_metric,
    depth_selection: calibrating.Selection = CALIBRATION.depth_selection,
    depth_tokens: calibrating.DepthTokens = CALIBRATION.depth_tokens,
    layers: calibrating.Fewest = None,
    data: Sources = DEFAULT_SOURCES,
    text_field: TextField = DATA.text_field,
    sequence_length: SequenceLength = DATA.sequence_length,
    seed: Seed = DATA.seed,
    threads: Threads = None,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Measure the importance of layers, hidden channels, neurons and heads, in forward passes only."""
    check_new(output)
    calibration = CalibrationRecipe(
        num_tokens=tokens, batch_size=batch_size, metric=metric, sequence_aggregation=sequence_aggregation,
        batch_aggregation=batch_aggregation, steps=steps, depth_metric=depth_metric,
        depth_selection=depth_selection, depth_tokens=depth_tokens, seed=seed,
    )  # fmt: skip
    smallest = calibrating.smallest_shape(
        parent, calibration, layers=layers, hidden=hidden, intermediate=intermediate, heads=heads
    )
    recipe = data_recipe(
        data, None, text_field=text_field, sequence_length=sequence_length,
        validation_tokens=sequence_length, seed=seed,
    )  # fmt: skip
    check_sequence_length(parent, sequence_length)
    check_parent(parent)
    from minitron.builtin import materialize
    from minitron.checkpoint import fingerprint
    from minitron.data import prepare_blocks
    from minitron.iterative import measure_in_steps

    num_blocks = calibration.num_blocks(sequence_length)
    with console_progress() as report:
        directory = materialize(parent, artifacts, report)
        blocks = prepare_blocks(
            recipe, directory, calibration_blocks=num_blocks, training_blocks=0, root=artifacts, report=report
        )
        scores = measure_in_steps(
            load_model(directory, threads), blocks.calibration_NT, calibration,
            smallest=smallest, fingerprint=fingerprint(directory), report=report,
        )  # fmt: skip
        scores.save(output)
    typer.echo(f"{output}: scores of {scores.architecture.name} from {blocks.calibration_NT.size:,} tokens")


def prune(
    *,
    parent: Checkpoint,
    scores: Annotated[
        Path,
        typer.Option(help="What `minitron importance` wrote for this parent.", exists=True, dir_okay=False),
    ],
    output: NewDirectory,
    layers: Annotated[int | None, typer.Option(help="Layers to keep.")] = None,
    hidden: Annotated[int | None, typer.Option(help="Hidden size to keep.")] = None,
    intermediate: Annotated[int | None, typer.Option(help="MLP neurons to keep in each layer.")] = None,
    heads: Annotated[int | None, typer.Option(help="Query heads to keep in each layer.")] = None,
    kv_heads: Annotated[int | None, typer.Option(help="KV heads to keep or pool to in each layer.")] = None,
    pool_kv_heads: Annotated[bool, typer.Option("--pool-kv-heads", help="Pool them, drop none.")] = False,
    head_merge: Annotated[
        bool, typer.Option("--head-merge", help="Fold dropped heads into kept ones.")
    ] = False,
    norm_rescaling: Annotated[bool, typer.Option("--norm-rescaling", help="Keep the size of norms.")] = False,
    artifacts: Artifacts = ARTIFACTS,
) -> None:
    """Cut a parent down to a smaller architecture, keeping what matters most."""
    from minitron.builtin import materialize
    from minitron.checkpoint import fingerprint
    from minitron.files import file_digest
    from minitron.importance import ImportanceScores
    from minitron.plan import plan_pruning
    from minitron.prune import prune as prune_model

    check_new(output)
    check_parent(parent)
    how: KvHeads = "mean" if pool_kv_heads else "drop"
    recipe = PruningRecipe(head_merge=head_merge, norm_rescaling=norm_rescaling, kv_heads=how)
    with console_progress() as report:
        directory = materialize(parent, artifacts, report)
        parent_fingerprint = fingerprint(directory)
        measured = ImportanceScores.load(scores, expected_fingerprint=parent_fingerprint)
        before = parent_architecture(str(directory))
        sizes = {
            "num_layers": layers, "hidden_size": hidden, "intermediate_size": intermediate,
            "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        }  # fmt: skip
        after = resized(before, {name: size for name, size in sizes.items() if size is not None})
        plan = plan_pruning(measured, after, recipe)
        student = prune_model(load_model(directory, threads=None), plan)
        card = model_card(
            title=output.name,
            parent=parent,
            parent_fingerprint=parent_fingerprint,
            before=before,
            after=after,
            recipes={"pruning": recipe},
            losses={},
            origin=pruning_facts(plan, scores=f"{scores.name}, SHA-256 {file_digest(scores)}"),
        )
        others = {PLAN_FILE: json.dumps(plan.as_json())}
        save_student(student, after, output, companions=directory, card=card, report=report, others=others)
    typer.echo(f"{output}: {after.name}, {after.parameter_count:,} of {before.parameter_count:,} parameters")
