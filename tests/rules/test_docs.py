"""The documents agree with the code."""

import re
from pathlib import Path

import pytest

from nas.service import SearchService
from nas.settings import Settings
from nas.spec import load_spec
from nas.storage.memory import InMemoryStore

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "deploy" / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_accepted(path, tmp_path):
    """A spec that we show must pass all that a search is checked for when it is submitted."""
    spec = load_spec(path)
    service = SearchService(InMemoryStore(), artifact_root=tmp_path)
    assert service.create(spec).num_feasible > spec.num_trials


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"make ([a-z][a-z-]*)", (ROOT / "README.md").read_text()))
    assert named
    assert named <= targets


def test_every_setting_is_explained():
    """Each environment variable stands in deploy/env.example."""
    example = (ROOT / "deploy" / "env.example").read_text()
    names = {
        (field.validation_alias or f"NAS_{name}").upper()
        if isinstance(field.validation_alias, str | None)
        else ""
        for name, field in Settings.model_fields.items()
    } - {""}
    assert names
    assert not {name for name in names if name not in example}


def test_the_file_map_of_the_readme_is_the_tree():
    """Every module stands in the map of ARCHITECTURE.md, and the map names no module that is gone."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    modules = {
        path.name
        for package in ("minitron", "nas", "workers", "api")
        for path in (ROOT / package).rglob("*.py")
        if path.name not in {"__init__.py", "__main__.py"} and "versions" not in path.parts
    }
    named = set(re.findall(r"\b([a-z0-9_]+\.py)\b", text))
    assert not {name for name in modules if name not in named}
    gone = {name for name in named - modules if not list(ROOT.rglob(name))}
    assert not gone
