"""Searches and what belongs to them: fixed ones for examples, Hypothesis strategies for laws."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from minitron.architecture import Architecture
from minitron.progress import Progress
from minitron.recipe import CalibrationRecipe, DataRecipe, DataSource, DistillationRecipe, TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe, TaskScore
from nas.axes import Axes, Multiples, Range
from nas.budget import Budget
from nas.earlier import HistoryUse
from nas.finals import Evaluated, Evaluation
from nas.orders import Enqueued, Orders
from nas.resources import Resources
from nas.search import AxisImportance, Comparisons, Rungs, Search, SearchSpec, SearchState, Winner
from nas.storage.store import TrialPoint
from nas.trial import Attempt, Failure, FailureKind, Measurement, Origin, Point, Trial, TrialRole, TrialState
from tests.strategies import architectures, latency_tables

START = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """Return a time after START."""
    return START + timedelta(seconds=seconds)


def make_spec(**changes: Any) -> SearchSpec:
    """Return a small spec of the tiny parent."""
    fields: dict[str, Any] = {
        "parent": "builtin:tiny",
        "budget": Budget(max_parameters=700_000, min_parameters=300_000),
        "axes": Axes(num_layers=(3, 4, 5, 6), hidden_size=Range(start=96, stop=128, step=8)),
        "num_trials": 20,
        "rungs": Rungs(fractions=()),
    }
    return SearchSpec(**(fields | changes))


def make_search(search_id: str = "search-1", **changes: Any) -> Search:
    """Return a queued search."""
    fields: dict[str, Any] = {
        "id": search_id, "spec": make_spec(), "num_feasible": 12, "parent_parameters": 10**12, "created_at": START,
    }  # fmt: skip
    return Search(**(fields | changes))


def make_trial(number: int = 0, **changes: Any) -> Trial:
    """Return a proposed trial of the search ``search-1``."""
    architecture = Architecture(
        num_layers=4, hidden_size=96, intermediate_size=160, num_attention_heads=8, num_key_value_heads=4,
        head_dim=16, vocab_size=1024, tie_word_embeddings=True, family="llama",
    )  # fmt: skip
    fields: dict[str, Any] = {
        "search_id": "search-1", "number": number, "architecture": architecture, "created_at": START,
    }  # fmt: skip
    return Trial(**(fields | changes))


def make_point(trial_number: int = 0, num_tokens: int = 0, loss: float = 3.5, **changes: Any) -> TrialPoint:
    """Return a point of a trial."""
    point = Point(**({"num_tokens": num_tokens, "loss": loss, "at": START} | changes))
    return TrialPoint(trial_number=trial_number, point=point)


def make_attempt(trial_number: int = 0, number: int = 1, **changes: Any) -> Attempt:
    """Return an attempt that goes on."""
    fields: dict[str, Any] = {
        "search_id": "search-1", "trial_number": trial_number, "number": number, "worker": "here:1", "started_at": START,
    }  # fmt: skip
    return Attempt(**(fields | changes))


MEASUREMENT = Measurement(
    num_tokens=1000, loss=2.25, loss_before_retraining=4.0, num_parameters=640_000, train_seconds=12.5
)


def make_scores(**values: float) -> tuple[TaskScore, ...]:
    """Return accuracies by task."""
    return tuple(
        TaskScore(task=task, metric="acc", value=value, stderr=0.01, num_samples=100)
        for task, value in values.items()
    )


counts = st.integers(1, 2**53)
seeds = st.integers(-(2**63), 2**63)
fractions = st.floats(0, 1, exclude_min=True, exclude_max=True)
losses = st.floats(0, 1e6)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
times = st.integers(-(10**15), 10**15).map(lambda microseconds: START + timedelta(microseconds=microseconds))
maybe_times = st.none() | times
failures = st.builds(
    Failure,
    kind=st.sampled_from(FailureKind),
    message=texts,
    traceback=st.none() | st.text(max_size=40),
    log_tail=st.none() | texts,
)
sizes = st.one_of(
    st.lists(st.integers(-5, 10_000), min_size=1, max_size=4).map(tuple),
    st.builds(Range, start=st.integers(1, 50), stop=st.integers(50, 100), step=st.integers(1, 9)),
)
multiples = st.builds(Multiples, of_hidden=st.lists(st.floats(0.1, 8), min_size=1, max_size=3).map(tuple))
names = texts.filter(bool)
data_sources = st.builds(
    DataSource,
    source=names,
    weight=st.floats(0.1, 100),
    config=st.none() | texts,
    split=texts,
    text_field=st.none() | texts,
)
specs = st.builds(
    SearchSpec,
    parent=texts,
    name=texts,
    parent_config=st.none() | st.dictionaries(texts, st.none() | st.booleans() | counts | texts, max_size=3),
    budget=st.builds(
        Budget,
        max_parameters=st.integers(1000, 10**13),
        min_parameters=st.integers(0, 1000),
        counting=st.sampled_from(["total", "non_embedding"]),
    ),
    axes=st.builds(
        Axes,
        num_layers=st.none() | sizes,
        hidden_size=st.none() | sizes,
        intermediate_size=st.none() | sizes | multiples,
        num_attention_heads=st.none() | sizes,
    ),
    data=st.builds(
        DataRecipe,
        source=names | data_sources | st.lists(data_sources, min_size=1, max_size=3).map(tuple),
        validation=st.none() | names | st.builds(DataSource, source=names, split=texts),
        text_field=texts,
        seed=counts,
    ),
    calibration=st.builds(
        CalibrationRecipe,
        num_tokens=counts,
        batch_size=counts,
        metric=st.sampled_from(["activation", "weighted"]),
        sequence_aggregation=st.sampled_from(["auto", "mean", "l2", "variance"]),
        batch_aggregation=st.sampled_from(["mean", "l2", "variance"]),
        steps=counts,
        depth_metric=st.sampled_from(["block_influence", "lm_loss", "kl", "logit_error"]),
        depth_selection=st.sampled_from(["independent", "iterative", "contiguous"]),
        depth_tokens=counts,
        seed=counts,
    ),
    distillation=st.builds(
        DistillationRecipe,
        temperature=st.floats(0.1, 10),
        label_weight=losses,
        teacher=st.sampled_from(["auto", "cached"]),
        cache_form=st.just("hidden"),
        intermediate=st.sampled_from(["auto", "none"]),
        intermediate_loss=st.sampled_from(["cosine", "mse"]),
        max_cache_bytes=counts,
    ),
    training=st.builds(
        TrainingRecipe,
        num_tokens=st.integers(10_000, 10**13),
        batch_tokens=st.integers(1, 10_000),
        peak_learning_rate=st.floats(1e-9, 1),
        final_learning_rate_ratio=st.floats(0, 1),
        precision=st.sampled_from(["auto", "float32", "bfloat16"]),
        optimizer_state=st.sampled_from(["float32", "bfloat16", "int8"]),
        activation_checkpointing=st.booleans(),
    ),
    correction=st.none()
    | st.just(CorrectionRecipe(mode="alongside", stages=1))
    | st.builds(
        CorrectionRecipe, num_tokens=st.integers(10_000, 10**13), learning_rate_ratio=st.floats(1e-6, 1)
    ),
    evaluation=st.none()
    | st.builds(
        Evaluation,
        tasks=st.lists(names, min_size=1, max_size=3).map(tuple),
        task_path=st.none() | texts,
        num_fewshot=st.none() | st.integers(0, 9),
        limit=st.none() | counts,
        chat=st.booleans(),
        finalists=st.integers(1, 9),
    ),
    rungs=st.builds(
        Rungs,
        fractions=st.sets(fractions, max_size=3).map(lambda each: tuple(sorted(each))),
        keep=fractions,
        adaptive=st.booleans(),
    ),
    sampler=st.sampled_from(["tpe", "random", "exhaustive", "nearest-budget"]),
    resources=st.builds(Resources, cpus=st.floats(0, 64), gpus=st.floats(0, 8), threads=st.integers(0, 64)),
    comparisons=st.builds(
        Comparisons, random_architectures=st.integers(0, 9), random_indices=st.integers(0, 9)
    ),
    history=st.builds(HistoryUse, reuse=st.booleans())
    | st.builds(HistoryUse, warm_start_from=st.lists(names, max_size=2).map(tuple)),
    checkpoint_seconds=st.floats(1e-3, 1e6),
    seed=seeds,
)
scores = st.builds(
    TaskScore,
    task=names,
    metric=names,
    value=losses,
    stderr=st.none() | losses,
    higher_is_better=st.booleans(),
    num_samples=counts,
    num_fewshot=st.integers(0, 9),
)
searches = st.builds(
    Search,
    id=st.uuids().map(str),
    spec=specs,
    state=st.sampled_from(SearchState),
    num_feasible=counts,
    parent_parameters=counts,
    parent_loss=st.none() | losses,
    corrected_loss=st.none() | losses,
    evaluated=st.lists(
        st.builds(
            Evaluated,
            trial_number=st.none() | st.integers(0, 99),
            scores=st.lists(scores, max_size=2).map(tuple),
        ),
        max_size=2,
    ).map(tuple),
    importance=st.none()
    | st.builds(
        AxisImportance,
        num_trials=st.integers(0, 99),
        shares=st.dictionaries(names, st.floats(0, 1), max_size=3),
    ),
    num_priors=st.none() | st.integers(0, 99),
    latencies=st.none() | architectures().flatmap(latency_tables),
    progress=st.none() | st.builds(Progress, stage=texts, done=counts, total=counts, unit=texts),
    winner=st.none() | st.builds(Winner, trial_number=st.integers(0, 99), path=texts),
    failure=st.none() | failures,
    cancel_requested=st.booleans(),
    orders=st.builds(
        Orders,
        is_paused=st.booleans(),
        is_killed=st.booleans(),
        killed_by=texts,
        num_trials=st.none() | counts,
        max_tokens=st.none() | counts,
        max_parallel=st.none() | counts,
        enqueued=st.lists(st.builds(Enqueued, architecture=architectures(), by=texts), max_size=2).map(tuple),
        stopped=st.lists(st.integers(0, 99), max_size=3).map(tuple),
    ),
    cloned_from=st.none() | texts,
    owner=texts,
    tags=st.sets(names, max_size=3).map(sorted).map(tuple),
    notes=texts,
    archived=st.booleans(),
    version=st.integers(0, 2**31 - 1),
    created_at=times,
    started_at=maybe_times,
    finished_at=maybe_times,
)
trials = st.builds(
    Trial,
    search_id=st.just("search-1"),
    number=st.integers(0, 2**31 - 1),
    architecture=architectures(),
    role=st.sampled_from(TrialRole),
    state=st.sampled_from(TrialState),
    rung=st.integers(0, 9),
    num_attempts=st.integers(0, 9),
    measurement=st.none()
    | st.builds(
        Measurement,
        num_tokens=counts,
        loss=losses,
        loss_before_retraining=losses,
        num_parameters=counts,
        train_seconds=losses,
    ),
    failure=st.none() | failures,
    checkpoint=st.none() | texts,
    enqueued_by=st.none() | texts,
    kept_layers=st.none() | st.lists(st.integers(0, 126), max_size=4).map(tuple),
    reused_from=st.none() | st.builds(Origin, search_id=names, trial_number=st.integers(0, 99)),
    created_at=times,
    started_at=maybe_times,
    finished_at=maybe_times,
)
points = st.builds(
    Point,
    num_tokens=st.integers(0, 2**53),
    loss=losses,
    train_loss=st.none() | losses,
    seconds=losses,
    at=times,
)
attempts = st.builds(
    Attempt,
    search_id=st.just("search-1"),
    trial_number=st.just(0),
    number=st.integers(1, 2**31 - 1),
    worker=texts,
    started_at=times,
    ended_at=maybe_times,
    failure=st.none() | failures,
)
