"""The options of the script ``minitron`` that say how a model is trained."""

from typing import Annotated

import typer

from minitron.recipe import CacheForm, DistillationRecipe, TeacherSource, TrainingRecipe

TRAINING = TrainingRecipe()
DISTILLATION = DistillationRecipe()
"""Whose defaults are those of the options."""

Tokens = Annotated[int, typer.Option(help="Length of a training.")]
BatchTokens = Annotated[int, typer.Option(help="Tokens of an optimiser step.")]
MicroBatchSize = Annotated[int, typer.Option(help="Blocks per forward and backward pass.")]
LearningRate = Annotated[float, typer.Option(help="Peak of the schedule that students are trained by.")]
Source = Annotated[
    TeacherSource, typer.Option(help="Answers computed once and kept, or asked for on the way.")
]
Form = Annotated[CacheForm, typer.Option(help="What is kept of an answer.")]
TopK = Annotated[int, typer.Option(help="Tokens kept of an answer.")]
