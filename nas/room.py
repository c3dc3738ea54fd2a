"""Whether what a trial takes is there."""

from nas.errors import InvalidSpec
from nas.estimate import TrialEstimate
from nas.wording import in_bytes


def require_memory(trial: TrialEstimate, available: int, *, field: str, what: str) -> None:
    """Raise InvalidSpec, naming ``field``, when a trial takes more than ``available`` bytes of ``what``."""
    if trial.memory_bytes <= available:
        return
    if trial.memory_bytes == trial.correction_bytes:
        reason = (
            f"found {in_bytes(available)} of {what}, needed to correct the teacher: "
            f"{in_bytes(trial.correction_bytes)}; lower training.micro_batch_size, or leave correction out"
        )
        raise InvalidSpec(((field, reason),))
    if trial.memory_bytes == trial.preparation_bytes:
        reason = (
            f"found {in_bytes(available)} of {what}, needed to prepare: {in_bytes(trial.preparation_bytes)}, of which "
            f"{in_bytes(trial.parent_bytes)} are the parent's; lower calibration.batch_size or data.sequence_length"
        )
        raise InvalidSpec(((field, reason),))
    reason = (
        f"found {in_bytes(available)} of {what}, needed by a trial: {in_bytes(trial.memory_bytes)}, of which "
        f"{in_bytes(trial.memory.activations)} grow with training.micro_batch_size and data.sequence_length; "
        "lower these or the budget"
    )
    raise InvalidSpec(((field, reason),))
