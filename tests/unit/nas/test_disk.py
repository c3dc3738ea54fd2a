"""What may go is what nobody will read again; everything else stays, whoever looks and whenever."""

import os
import time

import pytest

from minitron.recipe import TrainingRecipe
from nas import disk, layout
from nas.disk import (
    IN_USE_SECONDS,
    delete,
    keep_in_use,
    least_recently_used,
    leftovers,
    let_go,
    touch,
    tree_bytes,
    usage,
)
from nas.promotion import Promotion
from nas.search import SearchState, Winner
from nas.storage.memory import InMemoryStore
from nas.trial import TrialRole, TrialState
from tests.searches import MEASUREMENT, START, after, make_search, make_trial

HOUR = 3600.0


def write(path, size, *, hours=0.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    for each in (path, path.parent):
        age(each, hours)
    return path


def age(path, hours):
    then = time.time() - hours * HOUR
    os.utime(path, (then, then))


def artifact(root, kind, name, size, *, hours):
    directory = root / kind / name
    write(directory / "data", size)
    age(directory, hours)
    return directory


class Ended:
    """A store with a search of three trials (completed and won, completed, stopped), and their files."""

    def __init__(self, root, *, state=SearchState.SUCCEEDED, winner=None):
        self.store = InMemoryStore()
        self.store.add_search(make_search())
        self.lease = self.store.claim("search-1", "me", at=START, until=after(60))
        for number, ends in enumerate((TrialState.COMPLETED, TrialState.COMPLETED, TrialState.STOPPED)):
            trial = make_trial(number).started(START)
            if ends is TrialState.COMPLETED:
                trial = trial.completed(MEASUREMENT, "student", after(1))
            else:
                trial = trial.saved("state").parked().stopped(after(1))
            self.store.save_trial(trial, self.lease)
            write(layout.states_directory(root, trial) / "100" / "state", 30)
            if ends is TrialState.COMPLETED:
                write(layout.student_directory(root, trial) / "weights", 10)
        path = [SearchState.PREPARING, SearchState.RUNNING, SearchState.COMPLETING, SearchState.SUCCEEDED]
        for each in path[: path.index(state) + 1]:
            won = (
                {"winner": winner or Winner(trial_number=0, path="w")}
                if each is SearchState.SUCCEEDED
                else {}
            )
            self.store.save_search(self.store.get_search("search-1").moved(each, after(2), **won), self.lease)


def names(root, items):
    return sorted(str(item.path.relative_to(root)) for item in items)


def test_linked_files_count_once(tmp_path):
    write(tmp_path / "a", 100)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert tree_bytes(tmp_path) == tree_bytes(tmp_path / "a") == 100
    assert tree_bytes(tmp_path / "nothing") == 0


def test_usage_is_told_by_kind_and_by_search(tmp_path):
    artifact(tmp_path, "blocks", "b", 7, hours=0)
    artifact(tmp_path, "teachers", "t", 5, hours=0)
    Ended(tmp_path)
    found = usage(tmp_path)
    assert found.shared == {"blocks": 7, "teachers": 5}
    assert found.searches == {"search-1": 3 * 30 + 2 * 10}
    assert found.total == 7 + 5 + 110
    assert usage(tmp_path / "nowhere").total == 0


def test_of_an_ended_search_the_states_go_and_the_students_stay(tmp_path):
    ended = Ended(tmp_path)
    states = [f"searches/search-1/trials/{number}/states" for number in range(3)]
    assert names(tmp_path, leftovers(tmp_path, ended.store)) == states
    spare = leftovers(tmp_path, ended.store, keeps_students=False)
    assert names(tmp_path, spare) == sorted([*states, "searches/search-1/trials/1/student"])
    delete(spare)
    assert leftovers(tmp_path, ended.store, keeps_students=False) == []
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["searches/search-1/trials/0/student/weights"]


def test_a_promoted_student_stays_since_it_may_win_beside_one_that_is_promoted_later(tmp_path):
    ended = Ended(tmp_path, state=SearchState.COMPLETING)
    promotion = Promotion(training=TrainingRecipe())
    promoted = make_trial(3, role=TrialRole.PROMOTION, promoted_from=1, promotion=promotion).started(START)
    ended.store.save_trial(promoted.completed(MEASUREMENT, "student", after(1)), ended.lease)
    write(layout.student_directory(tmp_path, promoted) / "weights", 10)
    search = ended.store.get_search("search-1")
    won = search.moved(SearchState.SUCCEEDED, after(2), winner=Winner(trial_number=0, path="w"))
    ended.store.save_search(won, ended.lease)
    delete(leftovers(tmp_path, ended.store, keeps_students=False))
    left = [path.parent for path in tmp_path.rglob("weights")]
    assert layout.student_directory(tmp_path, promoted) in left
    assert len(left) == 2


@pytest.mark.parametrize(("untold_after", "goes"), [(None, True), (7200, True), (60, False), (-7200, False)])
def test_an_earlier_winner_goes_with_the_students_that_did_not_win_once_mlflow_has_it(
    tmp_path, untold_after, goes
):
    ended = Ended(tmp_path, winner=Winner(trial_number=7, path="searches/search-1/winner-7"))
    for number in (None, 5, 7):
        write(layout.winner_directory(tmp_path, "search-1", number) / "weights", 10)
    assert not any("winner" in name for name in names(tmp_path, leftovers(tmp_path, ended.store)))
    since = None if untold_after is None else after(2 + untold_after)
    found = leftovers(tmp_path, ended.store, keeps_students=False, untold_since=since)
    told = {item.path.name: item.reason for item in found if item.path.name.startswith("winner")}
    earlier = "earlier winner, which trial 7 has succeeded"
    assert told == ({"winner": earlier, "winner-5": earlier} if goes else {})


@pytest.mark.parametrize("state", [SearchState.RUNNING, SearchState.COMPLETING])
def test_of_a_search_under_way_nothing_goes(tmp_path, state):
    ended = Ended(tmp_path, state=state)
    assert leftovers(tmp_path, ended.store, keeps_students=False) == []


def test_a_search_of_another_store_stays(tmp_path):
    """Two databases may share an artifact root."""
    Ended(tmp_path)
    assert leftovers(tmp_path, InMemoryStore(), keeps_students=False) == []


def test_what_a_killed_process_left_goes_once_nothing_in_it_is_written(tmp_path):
    old, written = (artifact(tmp_path, "teachers", f".key.{name}", 9, hours=5) for name in ("old", "now"))
    age(old / "data", 5)
    age(written / "data", 0)
    write(tmp_path / "parents" / ".tiny.lock", 0, hours=5)
    found = leftovers(tmp_path, InMemoryStore())
    assert names(tmp_path, found) == ["teachers/.key.old"]
    assert found[0].num_bytes == 9


def test_the_longest_unused_go_first_and_only_until_the_rest_fits(tmp_path):
    for name, hours in (("a", 9), ("b", 7), ("c", 5)):
        artifact(tmp_path, "teachers", name, 100, hours=hours)
    artifact(tmp_path, "blocks", "d", 100, hours=8)
    assert names(tmp_path, least_recently_used(tmp_path, max_bytes=400)) == []
    assert names(tmp_path, least_recently_used(tmp_path, max_bytes=399)) == ["teachers/a"]
    assert names(tmp_path, least_recently_used(tmp_path, max_bytes=250)) == ["blocks/d", "teachers/a"]
    going = least_recently_used(tmp_path, max_bytes=0)
    assert len(going) == 4
    delete(going)
    assert usage(tmp_path).total == 0


def test_what_is_in_use_stays_however_much_there_is(tmp_path):
    used, unused = (artifact(tmp_path, "teachers", name, 100, hours=9) for name in ("used", "unused"))
    touch([used, tmp_path / "gone"])
    assert names(tmp_path, least_recently_used(tmp_path, max_bytes=0)) == ["teachers/unused"]
    assert unused.exists()
    assert IN_USE_SECONDS > 10 * 60


def test_what_comes_into_use_after_the_look_stays(tmp_path):
    path = artifact(tmp_path, "teachers", "t", 100, hours=9)
    items = least_recently_used(tmp_path, max_bytes=0)
    touch([path])
    assert delete(items) == items
    assert (path / "data").exists()


def test_what_comes_into_use_while_it_is_moved_is_moved_back(tmp_path, monkeypatch):
    """The touch falls between the look and the move: the path is already open elsewhere."""
    path = artifact(tmp_path, "teachers", "t", 100, hours=9)
    items = least_recently_used(tmp_path, max_bytes=0)
    rename = type(path).rename

    def touched_first(self, target):
        touch([self])
        return rename(self, target)

    monkeypatch.setattr(type(path), "rename", touched_first)
    assert delete(items) == items
    assert [each.name for each in path.parent.iterdir()] == ["t"]


def test_what_a_search_uses_that_has_not_ended_stays_for_any_length_of_time(tmp_path):
    """Its server may be down for days."""
    used, unused = (artifact(tmp_path, "teachers", name, 100, hours=999) for name in ("used", "unused"))
    keep_in_use(tmp_path, "search-1", [used])
    assert names(tmp_path, least_recently_used(tmp_path, max_bytes=0)) == ["teachers/unused"]
    let_go(tmp_path, "search-1")
    let_go(tmp_path, "search-1")
    assert len(least_recently_used(tmp_path, max_bytes=0)) == 2
    assert unused.exists()


def test_a_note_of_an_ended_search_goes(tmp_path):
    ended = Ended(tmp_path)
    keep_in_use(tmp_path, "search-1", [])
    assert "searches/search-1/uses.json" in names(tmp_path, leftovers(tmp_path, ended.store))


def test_what_killed_processes_left_of_an_ended_search_goes(tmp_path):
    ended = Ended(tmp_path)
    folder = tmp_path / "searches" / "search-1"
    left = [folder / "trials" / "1" / ".student.abc", folder / ".winner.abc", tmp_path / ".nodes" / "x"]
    for directory in left:
        write(directory / "data", 9, hours=50)
        age(directory, 50)
    found = names(tmp_path, leftovers(tmp_path, ended.store))
    assert {str(path.relative_to(tmp_path)) for path in left} <= set(found)


def test_a_deletion_that_was_killed_hinders_no_other(tmp_path):
    path = artifact(tmp_path, "blocks", "b", 7, hours=9)
    artifact(tmp_path, "blocks", ".b.deleted", 7, hours=9)
    assert delete(least_recently_used(tmp_path, max_bytes=0)) == []
    assert not path.exists()


def test_what_vanishes_under_the_look_is_passed_over(tmp_path, monkeypatch):
    gone, there = (artifact(tmp_path, "blocks", name, 7, hours=9) for name in ("gone", "there"))
    lstat = type(gone).lstat

    def vanishes(self):
        if self == gone:
            raise FileNotFoundError
        return lstat(self)

    monkeypatch.setattr(type(gone), "lstat", vanishes)
    assert names(tmp_path, least_recently_used(tmp_path, max_bytes=0)) == ["blocks/there"]
    assert there.exists()


def test_a_link_goes_and_what_it_leads_to_stays(tmp_path):
    target = artifact(tmp_path, "elsewhere", "real", 7, hours=9)
    (tmp_path / "parents").mkdir()
    (tmp_path / "parents" / "link").symlink_to(target)
    os.utime(tmp_path / "parents" / "link", (1, 1), follow_symlinks=False)
    assert delete(least_recently_used(tmp_path, max_bytes=0)) == []
    assert list((tmp_path / "parents").iterdir()) == []
    assert (target / "data").exists()


def test_deleting_what_is_gone_is_no_error(tmp_path):
    path = artifact(tmp_path, "blocks", "b", 7, hours=9)
    items = least_recently_used(tmp_path, max_bytes=0)
    assert delete(items) == []
    assert delete(items) == []
    assert not path.exists()
    assert disk.usage(tmp_path).total == 0
