"""Where one user keeps everything, and searches that run there in processes of their own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from safetensors.torch import load_file

from nas.clock import utc_now
from nas.logs import log_path
from nas.orders import Promote
from nas.promotion import Promotion
from nas.search import Comparisons, Rungs, Search
from nas.service import SearchService
from nas.settings import Settings
from nas.storage.sql import SqlStore, open_store
from nas.trial import Trial, TrialRole
from tests.micro import micro_spec

LEASE_SECONDS = 3.0
RUN = f"""
import logging, sys
from nas.settings import Settings
from workers.runner import STARTING, run_search
logging.basicConfig(level=logging.INFO)
sys.exit(run_search(sys.argv[1], Settings(), lease_seconds={LEASE_SECONDS}))
"""


@dataclass
class Home:
    """Where one user keeps everything, and what runs there."""

    settings: Settings
    store: SqlStore
    environment: Mapping[str, str] = field(default_factory=dict)
    """Beside what the settings set."""
    _started: list[subprocess.Popen] = field(default_factory=list)

    def create(self, **changes):
        spec = micro_spec(
            self.settings.home,
            **{
                "rungs": Rungs(fractions=(0.5,), keep=0.5, adaptive=False),
                "max_parallel": 1,
                "comparisons": Comparisons(random_indices=1),
                **changes,
            },
        )
        return SearchService(self.store, artifact_root=self.settings.artifact_root).create(spec).id

    def start(self, search_id, program=RUN):
        command = (sys.executable, "-P", "-c", program, search_id)
        self.settings.log_directory.mkdir(exist_ok=True)
        with log_path(self.settings.log_directory, search_id).open("ab") as log:
            process = subprocess.Popen(
                command,
                env=os.environ | self.settings.environment() | dict(self.environment),
                cwd=self.settings.home,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._started.append(process)
        return process

    def end(self):
        """End what a failed test left running."""
        for process in self._started:
            process.kill()
            process.wait()

    def run(self, search_id):
        code = self.start(search_id).wait(300)
        print(self.log)
        return code

    def promote(self, search_id: str, number: int, promotion: Promotion) -> Search:
        """Order the promotion of a trial."""
        return self.store.give_order(
            search_id, Promote(trial_number=number, promotion=promotion), at=utc_now()
        )

    def promotions(self, search_id: str) -> list[Trial]:
        """Return the promotions of a search by number."""
        return [trial for trial in self.store.trials(search_id) if trial.role is TrialRole.PROMOTION]

    @property
    def log(self):
        """What all processes here have printed."""
        return "".join(path.read_text() for path in sorted(self.settings.log_directory.iterdir()))

    def stage(self, search_id):
        progress = self.store.get_search(search_id).progress
        return progress and progress.stage

    def results(self, search_id):
        """Everything that an interruption must not change."""
        return [
            (trial.number, trial.role, trial.architecture, trial.state, _numbers(trial.measurement))
            for trial in self.store.trials(search_id)
        ]

    def weights(self, search_id):
        winner = self.store.get_search(search_id).winner
        return load_file(self.settings.artifact_root / winner.path / "model.safetensors")


def once(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait until a condition holds while a process runs."""
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, "the process ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def new_home(tmp_path_factory):
    """Return a home in new directories, with MLflow's record in a file of its own."""
    settings = Settings(
        home=tmp_path_factory.mktemp("home"),
        tracking_uri=f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db",
    )
    return Home(settings, open_store(settings.database_url))


def tell_mlflow(settings, **environment):
    """Have MLflow told all that is stored, as `nas run` does beside a search."""
    subprocess.run(
        [sys.executable, "-P", "-m", "workers", "--project"],
        env=os.environ | settings.environment() | environment,
        stdin=subprocess.DEVNULL,  # it ends once all is sent
        check=True,
    )


def _numbers(measurement):
    return measurement and (measurement.loss, measurement.loss_before_retraining, measurement.num_parameters)
