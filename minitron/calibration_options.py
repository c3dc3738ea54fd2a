"""The options of the script ``minitron`` that say how importance is measured, and the recipe they make."""

from typing import Annotated

import typer

from minitron.architecture import Architecture
from minitron.families import resized
from minitron.narrowing import shapes_between
from minitron.parents import parent_architecture
from minitron.recipe import (
    Aggregation,
    CalibrationRecipe,
    DepthMetric,
    DepthSelection,
    SequenceAggregation,
    WidthMetric,
)

CALIBRATION = CalibrationRecipe()
"""Whose defaults are those of the options."""

Tokens = Annotated[int, typer.Option(help="Calibration tokens.")]
BatchSize = Annotated[int, typer.Option(help="Blocks per forward pass.")]
Metric = Annotated[
    WidthMetric, typer.Option(help="What tells the importance of neurons, heads and channels.")
]
OverSequence = Annotated[SequenceAggregation, typer.Option(help="Of activations over the tokens of a block.")]
OverBatch = Annotated[Aggregation, typer.Option(help="Of what that gives, over the blocks.")]
Steps = Annotated[
    int,
    typer.Option(help="Measure, cut a part of the way to --hidden, --intermediate, --heads, measure again."),
]
Layers = Annotated[DepthMetric, typer.Option(help="What tells the cost of doing without layers.")]
Selection = Annotated[
    DepthSelection,
    typer.Option(help="Layers go each by its own cost, one at a time with new costs, or as one block."),
]
DepthTokens = Annotated[int, typer.Option(help="Of the calibration tokens, those run without layers.")]
Narrowest = Annotated[
    int | None, typer.Option(help="With --steps: the narrowest wanted.", show_default=False)
]
Fewest = Annotated[
    int | None,
    typer.Option(help="Fewest layers wanted, where their choice depends on how many go.", show_default=False),
]


def smallest_shape(
    parent: str,
    recipe: CalibrationRecipe,
    *,
    layers: int | None,
    hidden: int | None,
    intermediate: int | None,
    heads: int | None,
) -> Architecture:
    """Return the least of each size that is wanted of a parent; None is one layer, and the parent's width.

    Raises:
        InvalidArchitecture: A size below one, or heads that do not divide among the KV heads.
        InvalidRecipe, ArtifactMismatch: There is no way to it in the recipe's steps.
        MinitronError: As ``minitron.parents.parent_architecture``.
    """
    whole = parent_architecture(parent)
    given = {"hidden_size": hidden, "intermediate_size": intermediate, "num_attention_heads": heads}
    wanted = {name: size for name, size in given.items() if size is not None}
    shape = resized(whole, wanted | {"num_layers": 1 if layers is None else layers})
    shapes_between(whole, shape, recipe.steps)
    return shape
