"""Which files a path means: what shells match, in no order, lazily, and never more than can be meant."""

import glob
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minitron import local_paths
from minitron.errors import TooManyFiles
from minitron.local_paths import expanded, is_directory, paths_below, paths_like

NAMES = ["a", "b.txt", ".c", "dd", "b.md"]
PARTS = ["a", "*", "**", "b.*", ".*", "d?", "[ad]*", "none"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Three levels of every name, each a directory but the deepest and those with a suffix."""
    root = tmp_path_factory.mktemp("tree")

    def grow(directory, depth):
        for name in NAMES:
            if depth and "." not in name[1:]:
                (directory / name).mkdir()
                grow(directory / name, depth - 1)
            else:
                (directory / name).touch()

    grow(root, 2)
    return root


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4))
def test_a_pattern_matches_what_it_matches_in_python(tree, parts):
    pattern = tree.joinpath(*parts)
    found = list(paths_like(pattern))
    assert len(found) == len(set(found))
    if not set("*?[") & set("".join(parts)):
        assert found == [], "it is a path, and no pattern"
        return
    # Of a last ** Python also tells where it begins, which is no match of ours.
    same = pattern / "*" if parts[-1] == "**" else pattern
    assert set(found) == {Path(path) for path in glob.glob(str(same), recursive=True)}  # noqa: PTH207 - hidden names as in shells


def test_all_that_lies_below_a_directory_is_found_hidden_or_not(tree):
    assert sorted(paths_below(tree)) == sorted(tree.rglob("*"))


def test_a_path_that_is_relative_stays_so(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert sorted(paths_like(Path("a/*.txt"))) == [Path("a/b.txt")]
    assert Path("b.txt") in set(paths_like(Path("*")))
    assert Path("b.txt") in set(paths_below(Path()))


def test_loops_of_links_are_not_walked(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.txt").touch()
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    below = {path.relative_to(tmp_path).as_posix() for path in paths_below(tmp_path)}
    assert below == {"real", "real/x.txt", "real/up", "self"}
    found = {path.relative_to(tmp_path).as_posix() for path in paths_like(tmp_path / "**" / "*.txt")}
    assert found == {"real/x.txt"}
    assert list(paths_like(tmp_path / "real" / "*" / "real" / "*.txt")), "a level that is named is entered"


def test_more_than_can_be_meant_is_not_looked_through(tree, monkeypatch):
    monkeypatch.setattr(local_paths, "MAX_ENTRIES", 10)
    for paths in (paths_below(tree), paths_like(tree / "**" / "none")):
        with pytest.raises(TooManyFiles, match="found more than 10 files and directories"):
            list(paths)
    assert next(paths_below(tree))


def test_what_vanishes_meanwhile_is_passed_over(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    paths = paths_below(tmp_path)
    seen = [next(paths)]
    for name in ("one", "two"):
        (tmp_path / name / "x").unlink()
        (tmp_path / name).rmdir()
    seen += paths
    assert {path.name for path in seen} <= {"one", "two"}
    assert list(paths_below(tmp_path / "never")) == []


def test_a_home_that_nobody_has_stands(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x") == tmp_path / "x"
    assert expanded("~nobody-at-all/x") == Path("~nobody-at-all/x")


def test_a_name_that_no_file_can_have_is_no_directory(tmp_path):
    assert is_directory(tmp_path)
    assert not is_directory(tmp_path / ("x" * (os.pathconf(tmp_path, "PC_NAME_MAX") + 1)))
