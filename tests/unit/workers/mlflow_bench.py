"""Searches that a fake executor has run, and what an MLflow shows of them."""

from copy import deepcopy
from dataclasses import replace
from datetime import timedelta

from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from nas.clock import utc_now
from nas.driver import Driver
from nas.frontier import best_trial
from nas.search import Artifacts, Comparisons, SearchState, Winner
from nas.storage.memory import InMemoryStore
from tests.fakes import FakeExecutor, Faults, Simulation, running_search, small_spec
from workers.tracking.projector import Projector
from workers.tracking.registry import CHAMPION, REGISTERED
from workers.tracking.target import EXPERIMENT

MADE_FROM = Artifacts(parent="p1", blocks="b1", validation="v1", scores="s1", teacher="t1")
DATABASE = "sqlite:///{}/new/mlflow.db"


class Bench:
    """One search in a store, and an MLflow in a directory or at an address."""

    def __init__(self, directory, mlflow, search_id, *, uri=None, store=None, faults=None, **changes):
        self.uri = uri or DATABASE.format(mlflow)
        self.artifacts = mlflow / "artifacts"
        self.directory = directory
        self.search_id = search_id
        self.store = store or InMemoryStore()
        self._changes = changes
        named = {"name": "a search", "comparisons": Comparisons(random_indices=1)}
        self.spec = small_spec(**named | changes)
        self.search, self.lease = running_search(self.store, self.spec, utc_now, search_id=search_id)
        self.save(made_from=MADE_FROM)
        self.driver = Driver(self.store.get_search(search_id), self.store, self.lease, utc_now)
        states = directory / f"states-{search_id}"
        states.mkdir(exist_ok=True)
        simulation = Simulation(directory=states, spec=self.spec, faults=faults or Faults())
        self.executor = FakeExecutor(simulation)

    def save(self, **changes):
        self.store.save_search(replace(self.store.get_search(self.search_id), **changes), self.lease)

    def run(self):
        self.executor.run(self.driver)

    def end(self, state=SearchState.SUCCEEDED, **changes):
        search = self.store.get_search(self.search_id).moved(state, utc_now(), **changes)
        self.store.save_search(search, self.lease)

    def succeed(self):
        """Run it to its winner, and return that."""
        self.run()
        winner = best_trial(self.store.trials(self.search_id))
        directory = self.directory / f"winner-{self.search_id}"
        directory.mkdir()
        (directory / "README.md").write_text("# card", encoding="utf-8")
        self.end(winner=Winner(trial_number=winner.number, path=directory.name))
        return winner

    def projector(self, **changes):
        options = {"root": self.directory, "uri": self.uri, "target": "here", "artifacts": self.artifacts}
        return Projector(self.store, **(options | changes))

    def project(self, **changes):
        """Send what is to be sent, and return whether that was all."""
        projector = self.projector(**changes)
        projector.stop()
        return projector.run()

    def like(self, **changes):
        """Return the same with changes."""
        other = object.__new__(Bench)
        other.__dict__ |= self.__dict__ | changes
        return other

    def another(self, search_id):
        """Return another search of the same in the same store, and the same MLflow."""
        mlflow = self.artifacts.parent
        return Bench(self.directory, mlflow, search_id, uri=self.uri, store=self.store, **self._changes)

    def untold(self, name):
        """Return the same history under another name, in a store that has told nobody of it."""
        store = InMemoryStore()
        record = deepcopy(self.store._records[self.search_id])
        record.search = replace(record.search, id=name)
        record.trials = {number: replace(trial, search_id=name) for number, trial in record.trials.items()}
        store._records[name] = record
        for event in self.store.events():
            data = event.data | {"search_id": name} if "search_id" in event.data else event.data
            store._events.append(replace(event, search_id=name, data=data))
        return self.like(search_id=name, store=store)

    def rewind(self):
        self.store.outboxes.rewind("here")

    @property
    def client(self):
        return MlflowClient(tracking_uri=self.uri)

    @property
    def experiment(self):
        return self.client.get_experiment_by_name(EXPERIMENT)

    def runs(self, kind, view=ViewType.ACTIVE_ONLY):
        query = f"tags.`nas.search_id` = '{self.search_id}' and tags.`nas.kind` = '{kind}'"
        return self.client.search_runs([self.experiment.experiment_id], query, run_view_type=view)

    def versions(self):
        """What MLflow's model registry has of the search, in the order in which it came there."""
        found = self.client.search_model_versions(f"tags.`nas.search_id` = '{self.search_id}'")
        return sorted(found, key=lambda each: int(each.version))

    def champion(self):
        """The search whose winner is the champion of its model, or was before somebody moved that on."""
        (version,) = self.versions()
        return self.client.get_model_version_by_alias(version.name, CHAMPION).tags["nas.search_id"]

    def parent(self):
        (parent,) = self.runs("search")
        return parent

    def history(self, run, key):
        return [
            (each.step, each.value, each.timestamp)
            for each in sorted(
                self.client.get_metric_history(run.info.run_id, key),
                key=lambda each: (each.step, each.timestamp),
            )
        ]

    def content(self):
        """All that MLflow shows of the search, but for what it names and numbers by itself."""
        return sorted(
            (
                run.info.run_name,
                run.info.status,
                run.info.start_time,
                run.info.end_time,
                sorted(run.data.params.items()),
                sorted(
                    (name, tag.split("/")[0] if name == REGISTERED else tag)
                    for name, tag in run.data.tags.items()
                    if name.startswith("nas.")
                ),
                [(key, self.history(run, key)) for key in sorted(run.data.metrics)],
                [file.path for file in self.client.list_artifacts(run.info.run_id, "winner")],
            )
            for kind in ("search", "attempt")
            for run in self.runs(kind)
        ) + [(each.name, sorted(each.tags.items()), each.description) for each in self.versions()]

    def turn_ends(self):
        """Let the turn of whoever was killed while sending be over."""
        outbox = self.store.outboxes.at("here")
        if outbox is not None:
            past = utc_now() - timedelta(hours=1)
            self.store.outboxes.advance(outbox, outbox.cursor, (), owner="killed", until=past)
