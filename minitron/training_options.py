"""Options of the command line that say how to distil and train. Loads no model framework.

Their defaults are those of the recipes.
"""

from pathlib import Path
from typing import Annotated

import typer

from minitron.recipe import (
    CacheForm,
    DistillationRecipe,
    Intermediate,
    Loss,
    OptimizerState,
    Precision,
    StateLoss,
    TeacherSource,
    TrainingRecipe,
    Weights,
)

TRAINING = TrainingRecipe()
DISTILLATION = DistillationRecipe()

Tokens = Annotated[int, typer.Option(help="Length of the training.")]
BatchTokens = Annotated[int, typer.Option(help="Tokens of an optimiser step.")]
MicroBatchSize = Annotated[int, typer.Option(help="Blocks per forward and backward pass.")]
LearningRate = Annotated[float, typer.Option(help="Peak of the schedule.")]
FinalRatio = Annotated[float, typer.Option(help="Of the peak, where the cosine ends.")]
WarmupTokens = Annotated[int, typer.Option(help="Until the peak is reached.")]
WeightDecay = Annotated[float, typer.Option(help="Of matrices; norms and biases have none.")]
Betas = Annotated[tuple[float, float], typer.Option(help="Of AdamW.")]
MaxNorm = Annotated[float, typer.Option(help="Gradients longer than this are cut to it.")]
Precisions = Annotated[Precision, typer.Option(help="Of forward and backward passes.")]
WeightsIn = Annotated[
    Weights, typer.Option(help="What a step runs on; what is stepped and saved is float32.")
]
Moments = Annotated[
    OptimizerState, typer.Option(help="How AdamW's moments are kept; int8 needs the extra [int8].")
]
Checkpointing = Annotated[bool, typer.Option(help="Less memory, a third more work, the same result.")]

LossOnLogits = Annotated[
    Loss,
    typer.Option(
        help="Between the student's logits and the teacher's; mse and cosine need hidden or live answers."
    ),
]
Temperature = Annotated[float, typer.Option(help="Of a KL; other than 1 it needs hidden or live answers.")]
LabelWeight = Annotated[float, typer.Option(help="Of the next-token loss, beside the teacher's.")]
States = Annotated[
    Intermediate,
    typer.Option(
        help="Hidden states to learn from too, of a live teacher; auto: output and embedding where depth falls by more "
        "than a fifth."
    ),
]
LossOnStates = Annotated[StateLoss, typer.Option(help="Between hidden states.")]
Source = Annotated[
    TeacherSource, typer.Option(help="Answers computed once and kept, or asked for on the way.")
]
Form = Annotated[CacheForm, typer.Option(help="What is kept of an answer.")]
TopK = Annotated[int, typer.Option(help="Tokens kept of an answer.")]
MaxCacheBytes = Annotated[int, typer.Option(help="Above this, auto asks on the way.")]

StateDirectory = Annotated[
    Path | None,
    typer.Option(
        help="Where the state of the training is kept until it ends; where there is one, it is gone on from, to the bit.",
        file_okay=False,
    ),
]
StateSeconds = Annotated[float, typer.Option(help="Between two states.", min=0.0)]
