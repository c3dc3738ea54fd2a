"""Seconds per trial outside training: a whole search by ``nas run``, against the training it did.

    python tests/benchmarks/bench_orchestration.py

Trials are made short, so that what surrounds them shows.
"""

import os
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from nas.service import SearchService
from nas.storage.sql import open_store
from nas.trial import TrialState

SPEC = """
name: orchestration benchmark
parent: builtin:tiny
budget: {max_parameters: 640_000, min_parameters: 520_000}
axes:
  num_layers: [4, 5, 6]
  hidden_size: {start: 80, stop: 128, step: 8}
  intermediate_size: {start: 96, stop: 256, step: 16}
data: {sequence_length: 128, validation_tokens: 1_024}
calibration: {num_tokens: 4_096}
training: {num_tokens: 4_096, batch_tokens: 2_048}
num_points: 1
num_trials: 40
max_parallel: 1
"""


def main() -> None:
    """Run and print."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        spec = home / "spec.yaml"
        spec.write_text(SPEC, encoding="utf-8")
        artifacts = Path(".nas/artifacts").absolute()
        subprocess.run(
            [Path(sys.executable).with_name("nas"), "run", spec],
            env=os.environ | {"NAS_HOME": scratch, "NAS_ARTIFACT_ROOT": str(artifacts)},
            check=True,
        )
        service = SearchService(open_store(f"sqlite:///{home}/nas.db"), artifact_root=artifacts)
        (view,) = service.list_views()
        records = service.trials(view.search.id)
        completed = [record for record in records if record.trial.state is TrialState.COMPLETED]
        starts = [record.trial.started_at for record in completed if record.trial.started_at]
        ends = [record.trial.finished_at for record in completed if record.trial.finished_at]
        wall: timedelta = max(ends) - min(starts)
        training = sum(
            record.trial.measurement.train_seconds for record in completed if record.trial.measurement
        )
        outside = (wall.total_seconds() - training) / len(completed)
        print(
            f"| seconds per trial outside training | {outside:.2f} | {len(completed)} trials | evaluation, pruning, saving, dispatch |"
        )
        print(f"| outside training / training | {outside * len(completed) / training:.2f} | | same run |")


if __name__ == "__main__":
    main()
