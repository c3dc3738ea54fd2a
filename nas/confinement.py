"""Which local paths specs may name that come from other people: those that really lie below the operator's roots.

What a link leads to counts, not where it stands. Checked when a search is submitted; what lies below the roots is the
operator's to watch over from then on.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from minitron.errors import MinitronError
from minitron.hub import PREFIX
from minitron.parents import BUILTIN_PREFIX
from minitron.sources import local_files
from nas.errors import InvalidSpec
from nas.search import SearchSpec

NAMED = (BUILTIN_PREFIX, PREFIX)
"""How names begin that are no paths."""
NO_PATH = ""
"""Below nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """Where local paths may lead."""

    roots: tuple[Path, ...] | None = None
    """Directories; without any, nowhere. None: everywhere."""

    def require(self, spec: SearchSpec) -> None:
        """Refuse a spec, with absolute paths, that names a path which leads elsewhere, whether it is there or not.

        Raises:
            InvalidSpec: With every such field.
        """
        if self.roots is None:
            return
        roots = tuple(os.path.realpath(root) for root in self.roots)
        problems = [
            (field, f"found {path}, {self._allowed()}")
            for field, path in _named_paths(spec)
            if not _is_below(roots, _real(path))
        ]
        if not problems:
            problems = [
                (field, f"found {path} behind a link, {self._allowed()}")
                for field, path in _linked_paths(spec)
                if not _is_below(roots, os.path.realpath(path))
            ]
        if problems:
            raise InvalidSpec(tuple(problems))

    def _allowed(self) -> str:
        if not self.roots:
            return "allowed: names that begin with builtin: or hub:, as NAS_DATA_ROOTS names no directory"
        return (
            f"allowed: builtin:, hub:, or what lies below {', '.join(map(str, self.roots))} (NAS_DATA_ROOTS)"
        )


EVERYWHERE = Confinement()
NOWHERE = Confinement(roots=())


def _named_paths(spec: SearchSpec) -> Iterator[tuple[str, str]]:
    """Yield the local paths that a spec names, by field."""
    if not spec.parent.startswith(NAMED):
        yield "parent", spec.parent
    for field, source in spec.data.all_sources.items():
        if not source.source.startswith(NAMED):
            yield field, source.source
    if spec.evaluation is not None and spec.evaluation.task_path is not None:
        yield "evaluation.task_path", spec.evaluation.task_path


def _linked_paths(spec: SearchSpec) -> Iterator[tuple[str, str]]:
    """Yield what would be read behind links, which may lead anywhere, by field."""
    for field, path in _named_paths(spec):
        if field.startswith("data."):
            yield from ((field, each) for each in _files_of(spec, field))
        else:
            yield from ((field, each) for each in _links_below(path))


def _files_of(spec: SearchSpec, field: str) -> Iterator[str]:
    try:
        files = local_files(field, spec.data.all_sources[field])
    except MinitronError:
        return  # said better by whatever checks sources
    yield from sorted({str(file.parent) for file in files})
    yield from (str(file) for file in files if file.is_symlink())


def _links_below(path: str) -> Iterator[str]:
    for directory, inner, files in os.walk(path):
        for name in (*inner, *files):
            found = os.path.join(directory, name)  # noqa: PTH118 - as os.walk gives them
            if os.path.islink(found):  # noqa: PTH114
                yield found


def _real(path: str) -> str:
    """Return where a path really is: of a pattern, where its part without signs of patterns is."""
    if "\0" in path:
        return NO_PATH
    parts = Path(path).parts
    plain = [part for part in parts if not any(sign in part for sign in "*?[")]
    is_pattern = len(plain) < len(parts) and not os.path.lexists(path)
    if not is_pattern:
        return os.path.realpath(path)
    first = next(index for index, part in enumerate(parts) if any(sign in part for sign in "*?["))
    if ".." in parts[first:]:
        return NO_PATH  # where that leads depends on what matches
    return os.path.realpath(Path(*parts[:first]))


def _is_below(roots: tuple[str, ...], path: str) -> bool:
    return path != NO_PATH and any(Path(path).is_relative_to(root) for root in roots)
