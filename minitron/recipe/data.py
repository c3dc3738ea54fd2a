"""Where text comes from and how it is cut."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from minitron.recipe.checks import require


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """A place that documents come from; the recipe that names it checks it."""

    source: str
    """``builtin:python-docs``, ``hub:ORG/NAME`` or ``hub:ORG/NAME@REVISION``, or a local file, directory or
    pattern of .txt, .md, .py, .json, .jsonl, .csv or .parquet, where .gz or .zst may follow."""
    weight: float = 1.0
    """Share of the tokens of a blend, relative to the other weights."""
    config: str | None = None
    """Of a hub dataset that has several."""
    split: str = "train"
    """Of a hub dataset."""
    text_field: str | None = None
    """The column that holds the text of a row, or its chat; None: that of the recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecipe:
    """Where text comes from and how it is cut into blocks of equal length.

    Documents are deduplicated and assigned to calibration, training or validation before they are
    tokenized and packed, so that no document is on two sides.
    """

    source: str | DataSource | tuple[DataSource, ...] = "builtin:python-docs"
    """The name or path of a source, a source, or a blend of several."""
    text_field: str = "text"
    """The column that holds the text of a row. Where it holds a list of messages, each with a role and a
    content, the tokenizer's chat template makes text of them."""
    validation: str | DataSource | None = None
    """A source of its own for the held-out tokens; None: the held-out side of ``source``."""
    sequence_length: int = 256
    """Tokens of one block."""
    validation_tokens: int = 32_768
    seed: int = 0
    """Shuffles files and documents."""

    def __post_init__(self) -> None:
        for field, source in self.sources.items():
            require(bool(source.source), field, source.source, "a name or a path")
            require(
                math.isfinite(source.weight) and source.weight >= 0,
                f"{field}.weight", source.weight, "a finite number, at least 0",
            )  # fmt: skip
        weights = [source.weight for source in self.sources.values()]
        require(any(weights), "data.source", weights, "weights of which one is above 0")
        held_out = self.validation_source
        if held_out is not None:
            require(bool(held_out.source), "data.validation", held_out.source, "a name or a path")
            require(held_out.weight == 1, "data.validation.weight", held_out.weight, "1: it stands alone")
        require(self.seed >= 0, "data.seed", self.seed, "at least 0")
        require(self.sequence_length >= 8, "data.sequence_length", self.sequence_length, "at least 8")
        require(
            self.validation_tokens >= self.sequence_length,
            "data.validation_tokens", self.validation_tokens, "at least one block of sequence_length",
        )  # fmt: skip

    @property
    def sources(self) -> dict[str, DataSource]:
        """What is calibrated and trained on, complete, by the field that names it."""
        if isinstance(self.source, tuple):
            return {
                f"data.source.{number}": self._complete(source) for number, source in enumerate(self.source)
            }
        return {"data.source": self._complete(self.source)}

    @property
    def validation_source(self) -> DataSource | None:
        """The source of ``data.validation``, complete, where there is one."""
        return None if self.validation is None else self._complete(self.validation)

    @property
    def all_sources(self) -> dict[str, DataSource]:
        """All that is read, complete, by the field that names it."""
        held_out = self.validation_source
        return self.sources if held_out is None else {"data.validation": held_out} | self.sources

    @property
    def validation_blocks(self) -> int:
        """Whole blocks of held-out tokens."""
        return self.validation_tokens // self.sequence_length

    def renamed(self, rename: Callable[[str, str], str]) -> Self:
        """Return the recipe with other names of its sources; ``rename`` gets the field and the name of each."""

        def changed(field: str, source: DataSource) -> DataSource:
            return replace(source, source=rename(field, source.source))

        source, held_out = self.source, self.validation
        if isinstance(source, tuple):
            source = tuple(changed(f"data.source.{number}", each) for number, each in enumerate(source))
        elif isinstance(source, DataSource):
            source = changed("data.source", source)
        else:
            source = rename("data.source", source)
        if isinstance(held_out, DataSource):
            held_out = changed("data.validation", held_out)
        elif held_out is not None:
            held_out = rename("data.validation", held_out)
        return replace(self, source=source, validation=held_out)

    def _complete(self, source: str | DataSource) -> DataSource:
        if isinstance(source, str):
            source = DataSource(source=source)
        return source if source.text_field is not None else replace(source, text_field=self.text_field)
