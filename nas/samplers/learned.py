"""Samplers that learn from the trials so far, by Optuna.

With few trials a model of them misleads, so both begin with another sampler. What Optuna wishes for is projected onto the
nearest feasible architecture that was not tried yet, and only such projected values are ever told.
"""

from dataclasses import dataclass
from random import Random

from optuna.samplers import NSGAIISampler, TPESampler
from optuna.trial import TrialState as OptunaState

from minitron.architecture import Architecture
from nas.priors import told_losses
from nas.samplers.foreseen import foreseen
from nas.samplers.sampler import Past, Sampler
from nas.samplers.told import ask, distributions_of, told
from nas.sampling import Objective
from nas.space import SearchSpace
from nas.trial import TrialState

MAX_STARTUP_TRIALS = 10
"""Optuna's default; half of the trials when those are few."""
MAX_POPULATION = 50
"""Optuna's default; a twentieth of the trials when those are few: simulated, that found better fronts than a quarter."""
MIN_POPULATION = 5
MUTATION = 0.5
"""How likely a child draws an axis anew: more than Optuna's one axis in all, since what was tried is no child again."""
GENERATION = "NSGAIISampler:generation"
"""The system attribute by which Optuna's sampler knows the generation of a trial that it proposed."""


_UNTOLD = {TrialState.FAILED, TrialState.CANCELLED}
"""Trials whose losses on the way are no verdict: one broke down after them, or people ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tpe:
    """The tree-structured Parzen estimator (Bergstra et al., 2011), over all axes at once.

    A trial counts by what it was measured to come to, or is foreseen to, so that those that were stopped early teach
    too; one of which nothing is known yet counts as bad, so that several workers do not try the same. Each prior takes
    the place of one trial at the beginning.
    """

    num_trials: int
    start: Sampler

    def propose(self, space: SearchSpace, past: Past, random: Random) -> Architecture | None:
        """See ``Sampler``."""
        known = foreseen(_told_by(past))
        if len(known) + len(past.priors) < min(MAX_STARTUP_TRIALS, max(1, self.num_trials // 2)):
            return self.start.propose(space, past, random)
        sampler = TPESampler(
            n_startup_trials=0,
            n_ei_candidates=24,
            multivariate=True,
            group=False,
            constant_liar=True,
            seed=random.getrandbits(32),
        )
        distributions = distributions_of(space)
        values, prior_values = told_losses(known, past.priors)
        trials = [
            told(
                prior.architecture,
                space,
                distributions,
                state=OptunaState.COMPLETE,
                values=[value],
            )
            for prior, value in zip(past.priors, prior_values, strict=True)
        ]
        trials += [
            told(
                trial.architecture,
                space,
                distributions,
                state=OptunaState.COMPLETE if trial.number in known else OptunaState.RUNNING,
                values=[values[trial.number]] if trial.number in known else None,
            )
            for trial in past.trials
            if trial.state not in _UNTOLD
        ]
        return space.nearest(ask(sampler, trials, distributions), past.tried)


def _told_by(past: Past) -> dict[int, dict[int, float]]:
    """Return the losses on the way, by trial number and tokens, of the trials that tell something."""
    told = {
        trial.number: dict(past.losses.get(trial.number, {}))
        for trial in past.trials
        if trial.state not in _UNTOLD
    }
    for trial in past.trials:
        if trial.measurement:
            told[trial.number][trial.measurement.num_tokens] = trial.measurement.loss
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Nsga2:
    """The genetic algorithm NSGA-II (Deb et al., 2002): trials of low loss and of low cost have children.

    Generations are the completed trials in the order of their numbers, so that they follow from what is stored, and what
    earlier searches measured comes before them: the first children are also theirs. The parents of a generation are the
    best of all before it, told as one generation: the same elite without a step for each.
    """

    num_trials: int
    objective: Objective
    start: Sampler

    def propose(self, space: SearchSpace, past: Past, random: Random) -> Architecture | None:
        """See ``Sampler``."""
        population = max(MIN_POPULATION, min(MAX_POPULATION, self.num_trials // 20))
        completed = [
            (trial, trial.measurement.loss)
            for trial in past.trials
            if trial.state is TrialState.COMPLETED and trial.measurement
        ]
        known = len(past.priors) + len(completed)
        if known < population:
            return self.start.propose(space, past, random)
        distributions = distributions_of(space)
        num_before = known // population * population
        values, prior_values = told_losses({trial.number: loss for trial, loss in completed}, past.priors)
        measured = [
            *zip((prior.architecture for prior in past.priors), prior_values, strict=True),
            *((trial.architecture, values[trial.number]) for trial, _ in completed),
        ]
        trials = [
            told(
                architecture,
                space,
                distributions,
                state=OptunaState.COMPLETE,
                values=[value, float(self.objective.of(architecture))],
                system_attributes={GENERATION: int(index >= num_before)},
            )
            for index, (architecture, value) in enumerate(measured)
        ]
        sampler = NSGAIISampler(
            population_size=population, mutation_prob=MUTATION, seed=random.getrandbits(32)
        )
        return space.nearest(ask(sampler, trials, distributions, num_objectives=2), past.tried)
