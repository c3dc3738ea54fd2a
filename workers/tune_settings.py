"""What Ray Tune takes from the environment only."""

import logging
import os


def quiet_tune(*, max_pending: int) -> None:
    """Have Tune print and retry nothing, and start at most so many workers at once."""
    os.environ.update(
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_DISABLE_AUTO_INIT="1",
        RAY_AIR_NEW_OUTPUT="0",
        TUNE_PRINT_ALL_TRIAL_ERRORS="0",
        TUNE_DISABLE_SIGINT_HANDLER="1",
        TUNE_GLOBAL_CHECKPOINT_S="31536000",
        TUNE_MAX_PENDING_TRIALS_PG=str(max_pending),
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
