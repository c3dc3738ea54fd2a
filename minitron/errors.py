"""What can go wrong while compressing a model.

MinitronError
├── FieldError              (base of the two that name a field)
│   ├── InvalidArchitecture a shape that no model of the family can have
│   └── InvalidRecipe       a recipe field out of range
├── UnsupportedModel        a family or a feature of a model that cannot be pruned here
├── UnreadableCheckpoint    a checkpoint directory that is missing, incomplete or corrupt
│   └── PickledCheckpoint   weights in a format that can run code when loaded
├── UnreadableData          a data source that is missing or holds no text
│   ├── TooManyFiles        more below a directory than can be meant
│   ├── DatasetTooSmall     fewer tokens than a recipe needs
│   └── UnreadableTask      a task to evaluate by that is missing or cannot be read
├── HubError                what was asked of the Hugging Face hub, and in vain
│   ├── RefusedByHub        no such repository, revision or file there, or no access to it
│   └── UnreachableHub      no network, or a hub that does not answer
├── ArtifactMismatch        a cached artifact that was made from something else
├── UnservedLoss            a loss that the chosen teacher source cannot serve
├── DivergedTraining        a loss or gradient that is not finite
├── OutOfSpace              the disk is full
└── MissingExtra            an optional dependency that is not installed

Each message is one line: which field or file, what was found, what is allowed.
"""


class MinitronError(Exception):
    """Base of every error that names a user's mistake or the world's failure."""


class FieldError(MinitronError, ValueError):
    """Base of the errors that name a field; keeps its parts, so that it survives pickling.

    A ValueError too, as codecs expect of a refused value, so that they can collect several.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class InvalidArchitecture(FieldError):
    """Raised for a shape that no model of the family can have."""


class InvalidRecipe(FieldError):
    """Raised for a recipe field that is out of range."""


class UnsupportedModel(MinitronError):
    """Raised for a model family, or a feature of a model, that cannot be pruned here."""


class UnreadableCheckpoint(MinitronError):
    """Raised for a checkpoint directory that is missing, incomplete or corrupt."""


class PickledCheckpoint(UnreadableCheckpoint):
    """Raised for weights in a pickle, which could run code when loaded."""


class UnreadableData(MinitronError):
    """Raised for a data source that is missing or holds no text."""


class TooManyFiles(UnreadableData):
    """Raised for a directory or a pattern below which there is more than can be meant."""


class DatasetTooSmall(UnreadableData):
    """Raised when a data source holds fewer tokens than the recipes need."""


class UnreadableTask(UnreadableData):
    """Raised for a task to evaluate by that is missing, cannot be read, or must not be run."""


class HubError(MinitronError):
    """Base of what can go wrong with the Hugging Face hub; raised itself for a name that is none."""


class RefusedByHub(HubError):
    """Raised for what the hub does not have, or does not give to whoever asks."""


class UnreachableHub(HubError):
    """Raised when the hub does not answer: the same may succeed later."""


class ArtifactMismatch(MinitronError):
    """Raised when a cached artifact was made from another model, other data or another recipe."""


class UnservedLoss(MinitronError, ValueError):
    """Raised when a loss needs more of the teacher than the chosen source holds."""


class DivergedTraining(MinitronError):
    """Raised when a loss or a gradient is not finite."""


class OutOfSpace(MinitronError):
    """Raised when the disk that holds the artifacts is full."""


class MissingExtra(MinitronError):
    """Raised when a feature needs an optional dependency that is not installed."""
