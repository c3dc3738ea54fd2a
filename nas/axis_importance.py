"""How much each searched axis matters for the loss, by Optuna's fANOVA over a search's study.

Needs scikit-learn, which comes with the extra ``worker``; computed beside a search and stored with it, for nobody
who asks for a page waits on a model of trials. Knows no store.
"""

from collections.abc import Iterable, Sequence

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from nas.frontier import trained_architectures
from nas.samplers.told import quiet
from nas.search import LEAST_TO_WEIGH, AxisImportance, Search
from nas.storage.store import TrialPoint
from nas.study import study_directions, study_trials
from nas.trial import Trial


def axis_importance(
    search: Search, trials: Sequence[Trial], points: Iterable[TrialPoint]
) -> AxisImportance | None:
    """Return the importance of the axes; None where too few trials were trained to the end, or all lose the same."""
    weighed = trained_architectures(trials)
    losses = {trial.measurement.loss for trial in weighed if trial.measurement}
    if len(weighed) < LEAST_TO_WEIGH or len(losses) < 2:
        return None
    with quiet():
        study = optuna.create_study(directions=study_directions(search.spec))
        study.add_trials(study_trials(search, weighed, points))
    shares = get_param_importances(
        study, evaluator=FanovaImportanceEvaluator(seed=0), target=lambda trial: trial.values[0]
    )
    return AxisImportance(
        num_trials=len(weighed), shares={name: round(float(share), 6) for name, share in shares.items()}
    )
