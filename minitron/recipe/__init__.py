"""How to read data, calibrate, distil and train: complete, so that a recipe reproduces a result.

Lengths are in tokens, never in steps. Everything is checked when it is made.
"""

from minitron.recipe.calibration import (
    Aggregation,
    CalibrationRecipe,
    DepthMetric,
    DepthSelection,
    KvHeads,
    PruningRecipe,
    SequenceAggregation,
    WidthMetric,
)
from minitron.recipe.data import DataRecipe, DataSource
from minitron.recipe.distillation import (
    LEAST_LAYERS,
    SERVED,
    SERVES_STATES,
    CacheForm,
    DistillationRecipe,
    Intermediate,
    Loss,
    State,
    StateLoss,
    TeacherSource,
    Temperatures,
)
from minitron.recipe.training import OptimizerState, Precision, TrainingRecipe, Weights

__all__ = [
    "LEAST_LAYERS",
    "SERVED",
    "SERVES_STATES",
    "Aggregation",
    "CacheForm",
    "CalibrationRecipe",
    "DataRecipe",
    "DataSource",
    "DepthMetric",
    "DepthSelection",
    "DistillationRecipe",
    "Intermediate",
    "KvHeads",
    "Loss",
    "OptimizerState",
    "Precision",
    "PruningRecipe",
    "SequenceAggregation",
    "State",
    "StateLoss",
    "TeacherSource",
    "Temperatures",
    "TrainingRecipe",
    "Weights",
    "WidthMetric",
]
