"""Fills the blocks of each side from a stream of documents, in bounded memory. Knows no source and no file format.

What is held at once: a shuffle buffer for each side, the reserve that short sides may borrow from (no more
tokens than those sides ask for), and 16 bytes of hash for each document that was read.
"""

import heapq
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain

from transformers import PreTrainedTokenizerBase

from minitron.block_file import Write
from minitron.documents import Document, passages
from minitron.errors import UnreadableData
from minitron.split import Side, side_of

BUFFER_CHARACTERS = 1 << 24
"""Of passages that are drawn from, shared out to the sides as documents are, so that all fill at one pace."""

_SEEN_BYTES = 16
"""Of each hash; equal by chance is less likely than a broken disk."""
_LEAST_CHARACTERS = 256
"""What a passage counts at least: its object takes room too."""
_BATCH_CHARACTERS = 1 << 16
_CHARACTERS_PER_TOKEN = 4
"""About; decides only how much is tokenized at once near the end."""

_SAME_DAY = (
    "{%- macro strftime_now(format) -%}{{ format | replace('%Y', '2026') | replace('%B', 'January')"
    " | replace('%b', 'Jan') | replace('%m', '01') | replace('%d', '01') }}{%- endmacro -%}\n"
)
"""What a template that tells the date is told, because blocks must not depend on the day they were made."""


def pack(
    documents: Iterable[Document], packers: Mapping[Side, "Packer"], *, seen: set[bytes], encoder: "Encoder"
) -> None:
    """Give each document to its side until all sides are full; where the documents end before, sides borrow.

    What is borrowed is whole documents of training, those whose hashes are highest, so that neither the
    order of the documents nor their number on the other sides decides which.

    Args:
        documents: Read no further than is needed.
        packers: Of every side.
        seen: Hashes of documents that have been read before, here or in another source; added to.
        encoder: That of the packers.
    """
    reserve = _Reserve(encoder)
    for document, digest in _new(documents, seen):
        side = side_of(digest)
        if side == "training":
            owed = packers["validation"].missing + packers["calibration"].missing
            for freed in reserve.keep(document, digest, owed):
                packers[side].add(freed)
        else:
            packers[side].add(document)
        if not any(packer.missing for packer in packers.values()):
            return
    for side in ("validation", "calibration"):
        packers[side].finish(reserve.lent())
    for freed in reserve.rest():
        packers["training"].add(freed)
    packers["training"].finish()


def pack_whole(
    documents: Iterable[Document], packer: "Packer", *, seen: set[bytes], read_to_end: bool
) -> None:
    """Give all documents to one side, whatever their hashes, until it is full.

    Args:
        documents: Of a source that is meant for this side.
        packer: Of the side.
        seen: As above, so that no other side gets one of them.
        read_to_end: Go on to the end of the documents, only for their hashes.
    """
    for document, _ in _new(documents, seen):
        packer.add(document)
        if not (packer.missing or read_to_end):
            return
    packer.finish()


def _new(documents: Iterable[Document], seen: set[bytes]) -> Iterator[tuple[Document, bytes]]:
    """Yield each document whose text has not been read before, and its hash."""
    for document in documents:
        digest = document.digest
        if digest[:_SEEN_BYTES] not in seen:
            seen.add(digest[:_SEEN_BYTES])
            yield document, digest


class Encoder:
    """Turns documents into tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

    def passages(self, document: Document) -> list[str]:
        """Return the text of a document in passages; that of a chat by the tokenizer's template.

        Raises:
            UnreadableData: A chat that the template refuses, or no template.
        """
        return passages(self._chat(document) if document.is_chat else document.text)

    def tokens(self, texts: list[str]) -> Iterator[list[int]]:
        """Yield the tokens of each passage and the end of text."""
        if texts:
            for ids in self._tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]:
                yield ids + self._end

    def _chat(self, document: Document) -> str:
        if not self._tokenizer.chat_template:
            raise UnreadableData(
                f"{document.where}: found a chat, allowed for this tokenizer, which has no chat template: text"
            )
        try:
            template = _SAME_DAY + self._tokenizer.get_chat_template()
            text = self._tokenizer.apply_chat_template(
                json.loads(document.text), chat_template=template, tokenize=False
            )
        except Exception as error:  # a template is a program of its own
            reason = " ".join(str(error).split())
            raise UnreadableData(
                f"{document.where}: the tokenizer's chat template refuses it: {reason}"
            ) from error
        assert isinstance(text, str)
        return text


class Packer:
    """One side of one source: shuffles passages, tokenizes them in batches and writes until it is full."""

    def __init__(
        self,
        write: Write,
        *,
        encoder: Encoder,
        num_tokens: int,
        buffer_characters: float,
        seed: str,
        count: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._write = write
        self._count = count
        self._encoder = encoder
        self._capacity = buffer_characters
        self._random = random.Random(seed)  # noqa: S311 - an order, not a secret
        self._passages: list[str] = []
        self._characters = 0
        self._batch: list[str] = []
        self._batch_characters = 0
        self.needed = num_tokens
        self.found = 0

    @property
    def missing(self) -> int:
        """Tokens that are still to be found."""
        return self.needed - self.found

    def add(self, document: Document) -> None:
        """Take a document into the shuffle buffer, and write what that makes leave it."""
        if not self.missing:
            return
        for passage in self._encoder.passages(document):
            self._passages.append(passage)
            self._characters += max(len(passage), _LEAST_CHARACTERS)
        while self._characters > self._capacity:
            self._put(self._draw())

    def finish(self, borrowed: Iterable[Document] = ()) -> None:
        """Write what the buffer holds and then, as long as that is too little, what can be borrowed."""
        while self._passages and self.missing:
            self._put(self._draw())
        self._flush()
        while self.missing and (document := next(iter(borrowed), None)):
            for passage in self._encoder.passages(document):
                self._put(passage)
            self._flush()

    def _draw(self) -> str:
        number = self._random.randrange(len(self._passages))
        self._passages[number], self._passages[-1] = self._passages[-1], self._passages[number]
        passage = self._passages.pop()
        self._characters -= max(len(passage), _LEAST_CHARACTERS)
        return passage

    def _put(self, passage: str) -> None:
        if not self.missing:
            return
        self._batch.append(passage)
        self._batch_characters += len(passage)
        if self._batch_characters >= min(_BATCH_CHARACTERS, _CHARACTERS_PER_TOKEN * self.missing):
            self._flush()

    def _flush(self) -> None:
        tokens = list(chain.from_iterable(self._encoder.tokens(self._batch)))[: self.missing]
        self._batch, self._batch_characters = [], 0
        self.found += len(tokens)
        self._write(tokens)
        self._count(len(tokens))
        if not self.missing:
            self._passages, self._characters = [], 0


class _Reserve:
    """Training documents that short sides may borrow: those of the highest hashes, just enough of them."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._kept: list[tuple[bytes, int, Document]] = []
        """A heap of hash, tokens and document, the lowest hash first."""
        self._tokens = 0
        self._largest = 0

    def keep(self, document: Document, digest: bytes, owed: int) -> list[Document]:
        """Take a document, and return those that training may have while others lack ``owed`` tokens."""
        if not owed:
            return [*self.rest(), document]
        # A side that borrows takes whole documents, up to one more than it needs.
        if self._tokens >= owed + self._largest and digest < self._kept[0][0]:
            return [document]
        num_tokens = sum(map(len, self._encoder.tokens(self._encoder.passages(document))))
        heapq.heappush(self._kept, (digest, num_tokens, document))
        self._tokens += num_tokens
        self._largest = max(self._largest, num_tokens)
        freed = []
        while self._tokens - self._kept[0][1] >= owed + self._largest:
            _, num_tokens, document = heapq.heappop(self._kept)
            self._tokens -= num_tokens
            freed.append(document)
        return freed

    def lent(self) -> Iterator[Document]:
        """Yield what is kept, the highest hash first, and forget what is taken."""
        self._kept.sort()
        while self._kept:
            yield self._kept.pop()[2]

    def rest(self) -> list[Document]:
        """Return what is kept, and forget it."""
        rest = [document for _, _, document in self._kept]
        self._kept, self._tokens = [], 0
        return rest
