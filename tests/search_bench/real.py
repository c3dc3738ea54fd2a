"""The same question on a real language model: SmolLM2-135M to at most 100 million parameters, on what this machine has.

    python -m tests.search_bench.real [--seeds 2] [--root DIR]

For each seed a search with the defaults, then NVIDIA's rule with at least as many tokens; searches that are done already
are not run again. Both choose on few held-out tokens, and their choices are judged on eight times as many.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from pathlib import Path

from minitron.architecture import Architecture
from minitron.recipe import CalibrationRecipe, DataRecipe, DistillationRecipe, TrainingRecipe
from nas.axes import AXIS_NAMES, Axes
from nas.budget import Budget
from nas.earlier import HistoryUse
from nas.report_spending import spending
from nas.rungs import schedule
from nas.search import Rungs, Search, SearchSpec, SearchState
from nas.service import SearchService
from nas.standing import TrialRecord
from nas.storage.sql import open_store
from nas.trial import Measurement, Trial, TrialState
from tests.search_bench.methods import DEFAULT, NUM_NEAREST, RULE, RULE_IN_ORDER
from tests.search_bench.record import Head, Outcome, write
from tests.search_bench.table import DECIMALS

JUDGED_ON = 32_768
"""Held-out tokens that the choices are compared on in the end; those that were chosen by are among them."""


def smollm2(seed: int) -> SearchSpec:
    """Return a search as a newcomer would write it: every axis ``auto``, and no word on how to search."""
    return SearchSpec(
        name=f"SmolLM2-135M to 100M, seed {seed}",
        parent="builtin:smollm2-135m",
        budget=Budget(max_parameters=100_000_000, min_parameters=90_000_000),
        axes=Axes(
            num_layers="auto", hidden_size="auto", intermediate_size="auto", num_attention_heads="auto"
        ),
        data=DataRecipe(sequence_length=256, validation_tokens=JUDGED_ON // 8),
        calibration=CalibrationRecipe(num_tokens=16_384, batch_size=4),
        distillation=DistillationRecipe(teacher="cached", cache_form="top_k", top_k=128),
        training=TrainingRecipe(
            num_tokens=32_768,
            batch_tokens=512,
            micro_batch_size=2,
            peak_learning_rate=6e-4,
            warmup_tokens=2_048,
            seed=seed,
        ),
        num_points=1,
        history=HistoryUse(reuse=False, warm_start=False),
        seed=seed,
    )


def main() -> None:
    """Run what is not done yet, and record it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--root", type=Path, default=Path(".nas/search-real"))
    options = parser.parse_args()
    laboratory = Laboratory(options.root.absolute())
    outcomes = [each for seed in range(options.seeds) for each in laboratory.compared(smollm2(seed))]
    write(laboratory.head(smollm2(0)), outcomes)


class Laboratory:
    """Searches below one root, each run by ``nas run`` as a user would, or found there."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._service = SearchService(
            open_store(f"sqlite:///{root}/nas.db"), artifact_root=root / "artifacts"
        )

    def compared(self, spec: SearchSpec) -> list[Outcome]:
        """Return what the defaults come to, and NVIDIA's rule on no fewer tokens, re-implemented from its documentation.

        The ten nearest below the budget are measured before retraining, and the best of them is retrained: the rule ends
        there. For the tokens that are left, the next best of the ten are retrained, as far as they go.
        """
        default = self._run(spec)
        looking = replace(
            spec,
            name=f"{spec.name}: the rule",
            sampler="nearest-budget",
            prior="none",
            num_trials=NUM_NEAREST,
            rungs=Rungs(fractions=(0.0,), keep=1 / NUM_NEAREST, adaptive=False),
        )
        looked = self._run(looking)
        ranked = sorted(looked.trials, key=lambda record: record.points[0].loss)
        num_more = min(ceil(default.num_tokens / schedule(spec).num_tokens), NUM_NEAREST) - 1
        training = replace(
            looking, name=f"{spec.name}: the rule goes on", num_trials=num_more, rungs=Rungs(fractions=())
        )
        trained = self._run(training, [record.trial.architecture for record in ranked[1 : 1 + num_more]])
        return [
            self._outcome(DEFAULT, default),
            self._outcome(RULE, looked),
            self._outcome(RULE_IN_ORDER, looked, trained),
        ]

    def head(self, spec: SearchSpec) -> Head:
        """Return what all searches have in common."""
        (search, *_) = (view.search for view in self._service.list_views())
        assert spec.budget.max_parameters is not None
        return Head(
            parent=spec.parent,
            parent_parameters=search.parent_parameters,
            parent_loss=self._judged(spec.parent),
            max_parameters=spec.budget.max_parameters,
            num_feasible=search.num_feasible,
            tokens_each=schedule(spec).num_tokens,
            chosen_on=spec.data.validation_tokens,
            judged_on=JUDGED_ON,
        )

    def _run(self, spec: SearchSpec, architectures: Sequence[Architecture] = ()) -> "Ran":
        """Run a search to its end, unless it was: of these architectures first."""
        found = [view.search for view in self._service.list_views() if view.search.spec.name == spec.name]
        search = found[0] if found else self._service.create(spec)
        if not found:
            for architecture in architectures:
                sizes = {name: getattr(architecture, name) for name in AXIS_NAMES}
                self._service.control.enqueue(search.id, sizes)
        if search.state is not SearchState.SUCCEEDED:
            subprocess.run(
                self._command("nas", "run", "--resume", search.id), env=self._environment, check=True
            )
        return Ran(self._service.search(search.id), self._service.trials(search.id))

    def _outcome(self, method: str, *searches: "Ran") -> Outcome:
        """Return what searches came to together; the choice is that of the lowest loss."""
        best = min(searches, key=lambda ran: ran.measured.loss)
        directory = self._service.winner_directory(best.search.id)
        records = [record for ran in searches for record in ran.trials]
        return Outcome(
            method=method,
            seed=best.search.spec.training.seed,
            num_tokens=sum(ran.num_tokens for ran in searches),
            found_after=best.found_after + sum(ran.num_tokens for ran in searches[: searches.index(best)]),
            seconds=round(sum(ran.seconds for ran in searches), 1),
            num_looked_at=len({record.trial.architecture for record in records}),
            num_trained=sum(record.trial.state is TrialState.COMPLETED for record in records),
            architecture=best.winner.architecture.name,
            num_parameters=best.measured.num_parameters,
            loss=round(best.measured.loss, DECIMALS),
            judged_loss=self._judged(str(directory)),
            losses={
                record.trial.architecture.name: {
                    str(point.num_tokens): round(point.loss, DECIMALS) for point in record.points
                }
                for record in records
            },
        )

    def _judged(self, checkpoint: str) -> float:
        """Return a checkpoint's loss on the tokens that choices are judged on."""
        tokens, root = str(JUDGED_ON), str(self._root / "artifacts")
        command = self._command(
            "minitron", "evaluate", checkpoint, "--validation-tokens", tokens, "--artifacts", root, "--json"
        )
        asked = subprocess.run(command, env=self._environment, check=True, text=True, stdout=subprocess.PIPE)
        return round(float(json.loads(asked.stdout)["held_out"]["nats_per_token"]), DECIMALS)

    @property
    def _environment(self) -> dict[str, str]:
        return os.environ | {"NAS_HOME": str(self._root)}

    @staticmethod
    def _command(name: str, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name(name)), *arguments]


@dataclass(frozen=True)
class Ran:
    """A search that came to its end."""

    search: Search
    trials: Sequence[TrialRecord]

    @cached_property
    def winner(self) -> Trial:
        """The best student."""
        assert self.search.winner is not None
        number = self.search.winner.trial_number
        return next(record.trial for record in self.trials if record.trial.number == number)

    @property
    def measured(self) -> Measurement:
        """What the winner came to."""
        assert self.winner.measurement is not None
        return self.winner.measurement

    @property
    def num_tokens(self) -> int:
        """Of retraining, of all trials together."""
        return spending(self.search, self.trials).num_tokens

    @property
    def found_after(self) -> int:
        """Tokens that all trials had been trained on when the winner came to its end."""
        points = {record.trial.number: record.points for record in self.trials}
        end = points[self.winner.number][-1].at
        known = ([each.num_tokens for each in own if each.at <= end] for own in points.values())
        return sum(max(tokens, default=0) for tokens in known)

    @property
    def seconds(self) -> float:
        """From its start to its end."""
        assert self.search.started_at is not None
        assert self.search.finished_at is not None
        return (self.search.finished_at - self.search.started_at).total_seconds()


if __name__ == "__main__":
    main()
