"""Conventions as tests, because a rule without a check decays."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("minitron", "nas", "workers", "api")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 400


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(params=SOURCES, ids=_name)
def source(request: pytest.FixtureRequest) -> tuple[str, ast.Module, str]:
    text = request.param.read_text(encoding="utf-8")
    return _name(request.param), ast.parse(text), text


def test_public_things_are_documented(source):
    name, tree, _ = source
    if "migrations/versions" in name:
        pytest.skip("a migration is documented by its module docstring alone, which Alembic shows")
    missing = [] if ast.get_docstring(tree) else ["the module"]
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not node.name.startswith("_") and not ast.get_docstring(node):
                missing.append(node.name)
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                missing += [
                    f"{node.name}.{method.name}"
                    for method in node.body
                    if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
                    and not method.name.startswith("_")
                    and not ast.get_docstring(method)
                    and not any(ast.unparse(each) == "overload" for each in method.decorator_list)
                ]
    assert not missing


def test_modules_stay_readable(source):
    name, _, text = source
    assert text.count("\n") <= MAX_LINES, f"{name}: is it one thing?"


def test_environment_is_read_in_settings_only(source):
    name, _, text = source
    if name != "nas/settings.py":
        assert not re.search(r"os\.getenv\(|os\.environ\[[^]]+\](?!\s*=)|os\.environ\.get\(", text)


def test_nothing_happens_at_import(source):
    """Modules hold definitions; no module connects, configures logging or starts threads when loaded."""
    _, tree, _ = source
    calls = [
        ast.unparse(node)
        for node in tree.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert not calls


def test_no_error_is_swallowed(source):
    _, tree, _ = source
    swallowed = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and all(isinstance(step, ast.Pass) for step in node.body)
    ]
    assert not swallowed


PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def test_nothing_is_unpickled(source):
    """What a pickle holds runs when it is loaded. (Ray pickles between its own processes.)"""
    _, tree, text = source
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [n.name for n in node.names]
        )
    }
    assert not imported & PICKLES
    assert not re.search(r"torch\.load\(|allow_pickle=True|weights_only=False|trust_remote_code=True", text)
