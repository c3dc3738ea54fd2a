"""``builtin:python-docs``: the documentation and library source of the running Python, as documents."""

import importlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "site-packages",
                    "dist-packages", "encodings", "pydoc_data", "__pycache__"}  # fmt: skip
"""Parts of the standard library that are fixtures, tables of numbers or no part of it."""


def python_docs() -> Iterator[str]:
    """Yield language topics, documentation of the modules written in C, and the library's source."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name]
    for name in sorted(sys.builtin_module_names):
        yield _module_documentation(name)
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        folders = path.relative_to(library).parts[:-1]
        # Files named for this machine's build (_sysconfigdata, config-3.11-...) tell its paths.
        is_generated = path.name.startswith("_sysconfigdata") or any("config-" in part for part in folders)
        if not is_generated and _SKIPPED_FOLDERS.isdisjoint(folders):
            yield path.read_text(encoding="utf-8", errors="replace")


def _module_documentation(name: str) -> str:
    """Docstrings of a module that has no source: of itself, its functions, its classes and their methods."""
    module = importlib.import_module(name)
    texts = [module.__doc__]
    for member_name, found in sorted(vars(module).items()):
        # Libraries replace hooks, such as ``sys.excepthook``; the interpreter keeps its own as ``sys.__excepthook__``.
        member = getattr(module, f"__{member_name}__", found) if member_name.endswith("hook") else found
        # What belongs to another module may have been put there by a library of this process.
        if getattr(member, "__module__", None) != name or member_name.startswith("_"):
            continue
        texts.append(_documentation(member_name, member))
        if inspect.isclass(member):
            texts += [
                _documentation(f"{member_name}.{method_name}", method)
                for method_name, method in sorted(vars(member).items())
                if inspect.isroutine(method) and not method_name.startswith("_")
            ]
    return "\n\n".join(text for text in texts if text)


def _documentation(name: str, member: Any) -> str | None:
    text = inspect.getdoc(member)
    return f"{name}\n{text}" if text else None
