"""The use cases: what is refused at submission, and what people are told about a search."""

import json
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from minitron.parents import BUILTIN_CONFIGS, TINY
from minitron.recipe import DataRecipe, DataSource, DistillationRecipe, TrainingRecipe
from minitron.stage_recipes import CorrectionRecipe
from nas.axes import Axes, Range
from nas.budget import Budget
from nas.errors import Conflict, EmptySpace, HubUnavailable, InvalidSpec, LogUnavailable, NotFound
from nas.estimate import estimate
from nas.finals import Evaluation
from nas.listing import SearchFilter
from nas.orders import Extend
from nas.resources import Resources
from nas.reusable import Reusable
from nas.search import Comparisons, Rungs, SearchState, Winner
from nas.service import SearchService
from nas.space import search_space
from nas.storage.memory import InMemoryStore
from nas.storage.store import TrialPoint
from nas.trial import Attempt, Failure, FailureKind, Measurement, Point, Trial, TrialRole, TrialState
from tests.hub import FakeHub, asked_here, serving
from tests.searches import START, make_search, make_spec, make_trial


class Clock:
    """Shows the time that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self):
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(clock):
    return InMemoryStore(clock)


@pytest.fixture
def service(store, clock, tmp_path):
    return SearchService(store, artifact_root=tmp_path / "artifacts", clock=clock)


@pytest.fixture
def parent(tmp_path):
    """A local checkpoint, as far as submission looks at it."""
    directory = tmp_path / "parent"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(BUILTIN_CONFIGS[TINY]))
    (directory / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    header = b'{"norm": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    (directory / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return directory


def refusal(service, spec) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        service.create(spec)
    assert service.list_views() == []
    assert "\n" not in str(caught.value)
    return dict(caught.value.problems)


# Submission


def test_a_search_is_queued_with_what_its_space_holds(service, store):
    search = service.create(make_spec())
    assert search == store.get_search(search.id)
    assert search.state is SearchState.QUEUED
    assert search.spec == make_spec()
    assert search.created_at == START
    assert search.parent_parameters == 1_017_472
    # d * (1025 + 1154 * layers) parameters: five, four, one and no hidden sizes at 3 to 6 layers.
    assert search.num_feasible == 10
    assert store.unclaimed(START) == [search]


def test_ids_are_distinct_sort_by_time_and_need_no_quoting(service, clock):
    ids = []
    for _ in range(30):
        ids.append(service.create(make_spec()).id)
        clock.pass_seconds(1)
    assert ids == sorted(set(ids))
    assert all(re.fullmatch(r"[0-9]{6}-[0-9]{6}-[0-9a-z]{5}", search_id) for search_id in ids)


def test_more_trials_than_architectures_are_allowed(service):
    assert service.create(make_spec(num_trials=10_000)).num_feasible < 10_000


def test_local_paths_become_absolute(service, parent, tmp_path, monkeypatch):
    """A worker may run in another directory."""
    (tmp_path / "text.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    spec = make_spec(parent="./parent", data=DataRecipe(source="text.txt"))
    stored = service.create(spec).spec
    assert stored.parent == str(parent)
    assert stored.data.source == str(tmp_path / "text.txt")


def test_a_home_directory_is_resolved(service, parent, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert service.create(make_spec(parent="~/parent")).spec.parent == str(parent)


@pytest.mark.parametrize(
    ("spec", "field", "reason"),
    [
        ({"parent": "builtin:none"}, "parent", "found 'builtin:none', allowed: builtin:tiny, "),
        ({"parent": "/none"}, "parent", "/none/config.json: no such file"),
        ({"data": DataRecipe(source="/none")}, "data.source", "/none: no such file, directory or match"),
        (
            {"data": DataRecipe(source="builtin:x")},
            "data.source",
            "found 'builtin:x', allowed: builtin:python-docs, hub:ORG/NAME or a local path",
        ),
        ({"data": DataRecipe(source=__file__.replace(".py", ".png"))}, "data.source", "/"),
        (
            {"data": DataRecipe(source=(DataSource(source="builtin:python-docs"), DataSource(source="/no")))},
            "data.source.1",
            "/no: no such file, directory or match",
        ),
        ({"data": DataRecipe(validation="hub:a/b/c")}, "data.validation", "found 'hub:a/b/c', allowed: hub:"),
        (
            {"data": DataRecipe(source=DataSource(source="builtin:python-docs", split="test"))},
            "data.source.split",
            "found 'test', allowed for builtin:python-docs, which is no hub dataset: none",
        ),
        ({"data": DataRecipe(sequence_length=600)}, "data.sequence_length", "found 600, allowed by max_pos"),
        ({"axes": Axes(num_layers=(5, 7))}, "axes.num_layers", "found 7, allowed: 1 to the parent's 6"),
        (
            {"distillation": DistillationRecipe(teacher="cached", max_cache_bytes=1)},
            "distillation.max_cache_bytes",
            "found 1, allowed for this recipe: at least ",
        ),
    ],
)
def test_what_cannot_run_is_refused_with_its_field(service, spec, field, reason):
    found = refusal(service, make_spec(**spec))
    assert list(found) == [field]
    assert found[field].startswith(reason)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "holds no JSON object"),
        ('{"model_type": "t5"}', "found 't5', allowed: llama"),
        (
            json.dumps(BUILTIN_CONFIGS[TINY] | {"num_key_value_heads": 3}),
            "found 8, allowed: a multiple of the 3",
        ),
    ],
)
def test_an_unsupported_parent_is_refused(service, parent, config, reason):
    (parent / "config.json").write_text(config)
    found = refusal(service, make_spec(parent=str(parent)))
    assert list(found) == ["parent"]
    assert reason in found["parent"]


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def _shard_missing(parent):
    index = {"weight_map": {"norm": "model.safetensors", "head": "model-2.safetensors"}}
    (parent / "model.safetensors").rename(parent / "model-1.safetensors")
    (parent / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda parent: (parent / "model.safetensors").rename(parent / "pytorch_model.bin"), "found pickled"),
        (lambda parent: (parent / "model.safetensors").unlink(), "holds neither model.safetensors"),
        (lambda parent: (parent / "model.safetensors").write_bytes(b"GGUF"), "cannot be read as safetensors"),
        (lambda parent: _truncate(parent / "model.safetensors"), "found 75 bytes, allowed by its header: 76"),
        (_shard_missing, "names shards that are missing: model-2.safetensors"),
        (lambda parent: (parent / "tokenizer.json").unlink(), "holds no tokenizer"),
        (
            lambda parent: (parent / "config.json").write_text(
                json.dumps(BUILTIN_CONFIGS[TINY] | {"quantization_config": {"quant_method": "awq"}})
            ),
            "quantization_config: found 'awq'",
        ),
        (
            lambda parent: (parent / "config.json").write_text(
                json.dumps(BUILTIN_CONFIGS[TINY] | {"vocab_size": 8})
            ) and (parent / "tokenizer.json").write_text(json.dumps({"model": {"vocab": list(range(9))}})),
            "found 9 tokens, allowed by vocab_size in config.json: at most 8",
        ),
    ],
    ids=["pickled", "no-weights", "other-format", "cut", "shard", "tokenizer", "quantized", "vocabulary"],
)  # fmt: skip
def test_a_parent_that_could_not_be_loaded_is_refused_at_submission(service, parent, damage, reason):
    assert service.create(make_spec(parent=str(parent))).state is SearchState.QUEUED
    damage(parent)
    with pytest.raises(InvalidSpec, match=re.escape(reason)) as caught:
        service.create(make_spec(parent=str(parent)))
    assert [field for field, _ in caught.value.problems] == ["parent"]


def test_a_parent_that_lacks_tensors_is_refused_at_submission(service, parent):
    """As headers tell: nothing is loaded."""
    header = b'{"model.norm.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    (parent / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    found = refusal(service, make_spec(parent=str(parent)))
    assert re.fullmatch(
        rf"{parent}: tensors are missing: model.embed_tokens.weight, .* and \d+ more", found["parent"]
    )


def test_a_correction_is_a_step_at_least(service):
    """Of one block, however few tokens were asked for."""
    spec = make_spec(
        training=TrainingRecipe(num_tokens=10_000, batch_tokens=8), correction=CorrectionRecipe(num_tokens=20)
    )
    assert refusal(service, spec) == {
        "correction.num_tokens": "found 20, allowed: at least one step of 256, with such a sequence_length"
    }


def test_chats_need_a_template(service, parent):
    spec = make_spec(parent=str(parent), evaluation=Evaluation(tasks=("arc",), chat=True))
    assert refusal(service, spec) == {
        "evaluation.chat": f"found true, allowed for {parent}, whose tokenizer has no chat template: false"
    }
    (parent / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    service.create(spec)
    (parent / "tokenizer_config.json").unlink()
    (parent / "chat_template.jinja").write_text("{{ messages }}")
    service.create(spec)


@pytest.mark.parametrize("source", ["text", "text/*.txt"])
def test_directories_and_patterns_of_text_are_taken(service, tmp_path, monkeypatch, source):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    spec = service.create(make_spec(data=DataRecipe(source=source))).spec
    assert spec.data.source == f"{tmp_path}/{source}"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serving(FakeHub()) as hub, asked_here(hub, monkeypatch, tmp_path / "home"):
        yield hub


def test_a_search_stays_with_the_commit_of_a_dataset(service, hub):
    """A dataset may change while a search runs, and a crash must not change what it trains on."""
    commit = hub.add("org/text", {"train.jsonl": b"{}"}, kind="dataset")
    blend = (DataSource(source="builtin:python-docs"), DataSource(source="hub:org/text", config="en"))
    stored = service.create(
        make_spec(data=DataRecipe(source=blend, validation="hub:org/text@main"))
    ).spec.data
    assert stored.source == (blend[0], replace(blend[1], source=f"hub:org/text@{commit}"))
    assert stored.validation == f"hub:org/text@{commit}"


def test_a_dataset_that_cannot_be_had_is_refused_with_its_field(service, hub, store):
    hub.add("org/gated", {"train.jsonl": b"{}"}, kind="dataset")
    hub.datasets["org/gated"].admitted = set()
    for name, reason in (
        ("hub:org/none", "hub:org/none: http"),
        ("hub:org/gated", "hub:org/gated: is gated: set HF_TOKEN"),
    ):
        found = refusal(service, make_spec(data=DataRecipe(validation=name)))
        assert list(found) == ["data.validation"]
        assert found["data.validation"].startswith(reason)
    hub.is_down = True
    with pytest.raises(
        HubUnavailable, match=r"^data\.source: hub:org/gated: http\S+ answered 503; allowed: try"
    ):
        service.create(make_spec(data=DataRecipe(source="hub:org/gated")))
    assert store.list_searches() == []


def test_an_impossible_budget_says_how_near_it_comes(service):
    with pytest.raises(EmptySpace, match="the nearest is L"):
        service.create(make_spec(budget=Budget(max_parameters=1000)))


# Planning


def test_a_plan_stores_nothing_and_refuses_what_create_refuses(service, store):
    found = service.plan(make_spec())
    assert replace(found, reusable=None) == estimate(make_spec(), search_space(make_spec()))
    assert found.reusable == Reusable(num_known=0, most_tokens=0)
    assert store.list_searches() == []
    with pytest.raises(InvalidSpec, match=r"axes\.num_layers"):
        service.plan(make_spec(axes=Axes(num_layers=(7,))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "data": DataRecipe(sequence_length=512),
                "training": TrainingRecipe(num_tokens=256, batch_tokens=256),
            },
            "training.num_tokens: found 256, allowed: at least one step of 512, with such a sequence_length",
        ),
        (
            {
                "distillation": DistillationRecipe(teacher="live", intermediate="output"),
                "axes": Axes(num_layers=(2, 6), hidden_size=Range(start=96, stop=128, step=8)),
                "budget": Budget(max_parameters=700_000),
            },
            "distillation.intermediate: found 'output', allowed: auto or none for a model of 2 layers",
        ),
    ],
)
def test_what_no_trial_could_train_by_is_refused_when_it_is_submitted(service, store, changes, message):
    for submit in (service.plan, service.create):
        with pytest.raises(InvalidSpec, match=re.escape(message)):
            submit(make_spec(**changes))
    assert store.list_searches() == []


def test_memory_that_was_stated_is_held_to(service):
    needed = service.plan(make_spec()).trial.memory_bytes
    assert service.create(make_spec(resources=Resources(memory_bytes=needed)))
    spec = make_spec(resources=Resources(memory_bytes=needed // 2))
    for submit in (service.plan, service.create):
        with pytest.raises(InvalidSpec, match=r"resources\.memory_bytes: found .* needed by a trial: "):
            submit(spec)


def test_the_rate_is_stated_or_what_like_trials_measured(service, store, clock, tmp_path):
    assert service.plan(SPEC).hours is None
    assert service.plan(SPEC, flops_per_second=1e9).rate.flops_per_second == 1e9
    history = History(store, clock)
    history.complete(history.begin(make_trial(0)), 2.0)
    for state in (SearchState.COMPLETING, SearchState.SUCCEEDED):
        history.save(store.get_search("search-1").moved(state, START))
    measured = service.plan(SPEC)
    assert measured.rate.source == "the median of 1 trials of builtin:tiny"
    assert measured.hours > 0
    assert service.plan(replace(SPEC, resources=Resources(cpus=2))).rate is None
    assert service.plan(SPEC, workspaces=("default",)).rate == measured.rate
    assert service.plan(SPEC, workspaces=("another",)).rate is None, "what others measured is theirs"
    always = SearchService(store, artifact_root=tmp_path, device_flops=5e9)
    assert always.plan(SPEC).rate.flops_per_second == 5e9


# What is told


SPEC = make_spec(
    training=TrainingRecipe(num_tokens=4096, batch_tokens=1024),
    num_trials=4,
    rungs=Rungs(fractions=(0.5,), keep=0.5, adaptive=False),
    comparisons=Comparisons(random_architectures=1, random_indices=1),
)
"""Steps of 1024 tokens, a rung after 2048, the end after 4096."""


class History:
    """Writes what a runner would, while time passes."""

    def __init__(self, store, clock) -> None:
        self.store = store
        self.clock = clock
        store.add_search(make_search(spec=SPEC))
        self.lease = store.claim("search-1", "runner", at=START, until=START + timedelta(days=1))
        search = make_search(spec=SPEC).moved(SearchState.PREPARING, START)
        self.save(search := search.moved(SearchState.RUNNING, START, parent_loss=1.0))
        self.search = search

    def save(self, *saved) -> None:
        for each in saved:
            if isinstance(each, Trial):
                self.store.save_trial(each, self.lease)
            elif isinstance(each, Attempt):
                self.store.save_attempt(each, self.lease)
            else:
                self.store.save_search(each, self.lease)

    def begin(self, trial: Trial) -> Trial:
        trial = trial.started(self.clock.now)
        self.save(trial)
        self.save(
            Attempt(
                search_id="search-1", trial_number=trial.number, number=trial.num_attempts, worker="here:1",
                started_at=self.clock.now,
            )
        )  # fmt: skip
        return trial

    def reach(self, trial: Trial, num_tokens: int, loss: float, *, seconds: float) -> None:
        self.clock.pass_seconds(seconds)
        point = Point(num_tokens=num_tokens, loss=loss, at=self.clock.now)
        self.store.add_point(TrialPoint(trial_number=trial.number, point=point), self.lease)

    def complete(self, trial: Trial, loss: float) -> None:
        measured = Measurement(
            num_tokens=4096, loss=loss, loss_before_retraining=5.0, num_parameters=600_000, train_seconds=1.0
        )
        self.save(trial.completed(measured, f"trials/{trial.number}", self.clock.now))


@pytest.fixture
def history(store, clock):
    return History(store, clock)


def test_a_search_that_has_not_begun_knows_its_length_but_not_its_end(service, history):
    view = service.get("search-1")
    assert view.search == history.search
    assert view.counts == {}
    assert (view.best, view.best_loss, view.gap_closed) == (None, None, None)
    assert view.tokens_done == 0
    assert view.tokens_total == 4 * (2048 + 2048 // 2) + 2 * 4096
    assert view.eta_seconds is None


def test_the_best_trial_is_told_with_the_share_of_the_gap_it_closes(service, history):
    for number, loss in enumerate((3.0, 2.0, 2.5)):
        trial = history.begin(make_trial(number))
        history.reach(trial, 4096, loss, seconds=10)
        history.complete(trial, loss)
    baseline = history.begin(make_trial(3, role=TrialRole.RANDOM_ARCHITECTURE))
    history.complete(baseline, 1.5)
    history.begin(make_trial(4))
    view = service.get("search-1")
    assert view.counts == {TrialState.COMPLETED: 4, TrialState.RUNNING: 1}
    assert view.best.number == 1
    assert view.best_loss == 2.0
    assert view.gap_closed == (5.0 - 2.0) / (5.0 - 1.0)


def test_time_left_follows_from_the_pace_and_what_is_expected_yet(service, history):
    """One trial completed in 40 s, one stopped at its rung after 20 s, one waits there for its turn."""
    first = history.begin(make_trial(0))
    history.reach(first, 0, 5.0, seconds=0)
    history.reach(first, 4096, 2.0, seconds=40)
    history.complete(first, 2.0)
    for number in (1, 2):
        trial = history.begin(make_trial(number))
        history.reach(trial, 2048, 3.0, seconds=20)
        trial = trial.saved(f"trials/{number}").parked()
        history.save(trial if number == 2 else trial.stopped(history.clock.now))
    view = service.get("search-1")
    assert view.tokens_done == 4096 + 2048 + 2048
    waiting, to_come, baselines = 2048 // 2, 2048 + 2048 // 2, 2 * 4096
    assert view.tokens_total == view.tokens_done + waiting + to_come + baselines
    tokens_per_second = 8192 / 80
    assert view.eta_seconds == pytest.approx((waiting + to_come + baselines) / tokens_per_second / 2)


def test_tokens_limit_what_is_expected_yet(service, history):
    """Of two more that there might be, the tokens left suffice for one."""
    trial = history.begin(make_trial(0))
    history.reach(trial, 1024, 4.0, seconds=10)
    each, under_way = 2048 + 2048 // 2, 1024 + 2048 // 2
    for left, to_come in ((2 * each - 1, 1), (each, 1), (each - 1, 0), (9 * each, 3)):
        limit = Extend(max_tokens=1024 + under_way + left)
        history.store.give_order("search-1", limit, at=history.clock.now)
        view = service.get("search-1")
        assert view.tokens_total == 1024 + under_way + to_come * each + 2 * 4096


def test_a_time_when_nothing_ran_does_not_slow_the_pace(service, history):
    """Of an attempt that died, what it trained after its last evaluation counts neither as work nor time."""
    trial = history.begin(make_trial(0))
    history.reach(trial, 1024, 4.0, seconds=10)
    history.clock.pass_seconds(3600)
    trial = history.begin(trial)
    history.reach(trial, 2048, 3.0, seconds=10)
    history.clock.pass_seconds(5)
    view = service.get("search-1")
    ahead = view.tokens_total - view.tokens_done
    assert view.eta_seconds == pytest.approx(ahead / (2048 / 20) / 2)


def test_the_last_trial_has_no_company(service, history):
    """Two at a time are allowed, but one is left."""
    for number in range(4):
        trial = history.begin(make_trial(number))
        history.reach(trial, 4096, 2.0, seconds=40)
        history.complete(trial, 2.0)
    for number, role in ((4, TrialRole.RANDOM_ARCHITECTURE), (5, TrialRole.RANDOM_INDICES)):
        trial = history.begin(make_trial(number, role=role))
        history.reach(trial, 2048, 3.0, seconds=20)
        if number == 4:
            history.reach(trial, 4096, 2.0, seconds=20)
            history.complete(trial, 2.5)
    assert service.get("search-1").eta_seconds == pytest.approx(20)


def test_what_has_ended_has_no_time_left(service, history):
    trial = history.begin(make_trial(0))
    history.reach(trial, 1024, 4.0, seconds=10)
    history.save(history.search.moved(SearchState.CANCELLED, history.clock.now))
    view = service.get("search-1")
    assert view.eta_seconds is None
    assert view.tokens_done == view.tokens_total == 1024


def test_trials_come_with_their_points_and_attempts(service, history):
    first, second = history.begin(make_trial(0)), history.begin(make_trial(1))
    for tokens in (0, 1024):
        history.reach(second, tokens, 4.0, seconds=1)
    again = history.begin(second)
    records = service.trials("search-1")
    assert [record.trial for record in records] == [first, again]
    assert [[point.num_tokens for point in record.points] for record in records] == [[], [0, 1024]]
    assert [[attempt.number for attempt in record.attempts] for record in records] == [[1], [1, 2]]


def test_trials_say_why_they_wait_and_nothing_is_read_twice(service, store, history, monkeypatch):
    for number, loss in enumerate((3.0, 2.0)):
        trial = history.begin(make_trial(number))
        history.reach(trial, 2048, loss, seconds=20)
        history.save(trial.saved(f"trials/{number}").parked())
    asked = []
    for name in ("trials", "points", "attempts"):
        read = getattr(store, name)
        monkeypatch.setattr(store, name, lambda *args, _name=name, _read=read: asked.append(_name) or _read(*args))  # fmt: skip
    records = service.trials("search-1")
    assert [record.waiting.position for record in records] == [2, 1]
    assert asked == ["trials", "points", "attempts"]
    assert service.list_trials("search-1", after=(None, 0)) == records[1:]
    assert asked.count("points") == asked.count("attempts") == 2


def test_searches_are_listed_by_page_and_state(service, clock):
    ids = []
    for _ in range(3):
        ids.append(service.create(make_spec()).id)
        clock.pass_seconds(1)
    service.control.cancel(ids[0])
    assert [view.search.id for view in service.list_views(limit=2)] == ids[:0:-1]
    assert [view.search.id for view in service.list_views(limit=2, after=ids[1])] == ids[:1]
    cancelled = SearchFilter(states=(SearchState.CANCELLED,))
    assert [view.search.id for view in service.list_views(cancelled)] == ids[:1]


# The rest


def test_cancelling_a_queued_search_ends_it(service, clock):
    search_id = service.create(make_spec()).id
    clock.pass_seconds(3)
    assert service.control.cancel(search_id).finished_at == clock.now
    assert service.get(search_id).search.state is SearchState.CANCELLED


def test_events_are_those_of_the_store(service, store, history):
    service.create(make_spec())
    assert service.events() == store.events()
    assert service.events(after=1, search_id="search-1", limit=1) == store.events()[1:2]


def test_the_winner_is_a_directory_below_the_artifact_root(service, history, tmp_path):
    with pytest.raises(Conflict, match="winner: search search-1 has none yet; it is RUNNING"):
        service.winner_directory("search-1")
    search = replace(history.search, winner=Winner(trial_number=0, path="searches/search-1/winner"))
    history.save(search)
    with pytest.raises(NotFound, match="searches/search-1/winner: no such directory"):
        service.winner_directory("search-1")
    directory = tmp_path / "artifacts" / "searches" / "search-1" / "winner"
    directory.mkdir(parents=True)
    assert service.winner_directory("search-1") == directory


def test_a_search_that_ended_without_winner_says_so(service):
    search_id = service.create(make_spec()).id
    service.control.cancel(search_id)
    with pytest.raises(Conflict, match=f"search {search_id} has none; it is CANCELLED"):
        service.winner_directory(search_id)


@pytest.fixture
def logs(tmp_path):
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory


def fail(history, **changes):
    failure = Failure(kind=FailureKind.WORKER_LOST, message="lost", **changes)
    history.save(history.search.moved(SearchState.FAILED, history.clock.now, failure=failure))


def test_a_log_is_its_file_or_what_the_failure_took_along(service, history, logs, store):
    here = SearchService(store, artifact_root=logs, logs=logs)
    with pytest.raises(LogUnavailable, match=r"below NAS_HOME/logs where its worker runs.*; here: .*No such"):
        here.log("search-1", num_lines=2)
    fail(history, log_tail="one\ntwo\nthree")
    for elsewhere in (service, here):
        tail = elsewhere.log("search-1", num_lines=2)
        assert (tail.source, tail.lines) == ("failure", ("two", "three"))
        assert tail.updated_at == history.clock.now
    (logs / "search-1.log").write_text("zero\none\ntwo\nthree\n")
    assert here.log("search-1", num_lines=9).lines == ("zero", "one", "two", "three")
    assert service.log("search-1", num_lines=9).source == "failure"


def test_no_log_yet_and_a_log_elsewhere_are_told_apart(service, history):
    queued = service.create(make_spec())
    with pytest.raises(LogUnavailable, match=f"search {queued.id} has none yet; it is QUEUED"):
        service.log(queued.id, num_lines=1)
    with pytest.raises(LogUnavailable, match=r"to be found below NAS_HOME/logs .* as search-1\.log$"):
        service.log("search-1", num_lines=1)
    fail(history)
    with pytest.raises(LogUnavailable, match="to be found"):
        service.log("search-1", num_lines=1)


def test_a_clone_of_nothing_is_not_found(service):
    with pytest.raises(NotFound):
        service.clone("none", {})


@pytest.mark.parametrize("call", ["get", "search", "trials", "list_trials", "winner_directory"])
def test_unknown_searches_are_not_found(service, call):
    with pytest.raises(NotFound, match="search none: not found"):
        getattr(service, call)("none")
    with pytest.raises(NotFound):
        service.events(search_id="none")


def test_a_store_that_answers_is_ready(service):
    service.ping()
