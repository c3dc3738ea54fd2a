"""The laws of packing: one side for each document, sides that borrow alike, little read, little held."""

import json
import tracemalloc
from itertools import count, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minitron.documents import PASSAGE_CHARACTERS, Document
from minitron.errors import UnreadableData
from minitron.packing import Encoder, Packer, pack, pack_whole
from minitron.split import SHARES, SIDES, apportion, side_of
from tests.checkpoints import word_tokenizer

BUFFER = 20_000


class Letters:
    """One token for each character, so that what was packed can be read."""

    eos_token_id = 0
    chat_template = None

    def __call__(self, texts, **_):
        return {"input_ids": [[ord(letter) for letter in text] for text in texts]}


class Packed:
    """The sides, and what was written to each."""

    def __init__(self, needed, *, seed=0, buffer_characters=BUFFER):
        self.encoder = Encoder(Letters())
        self.tokens = {side: [] for side in SIDES}
        self.packers = {
            side: Packer(
                self.tokens[side].extend,
                encoder=self.encoder,
                num_tokens=needed[side],
                buffer_characters=buffer_characters * SHARES[side],
                seed=f"{seed} {side}",
            )
            for side in SIDES
        }

    def fill(self, documents, seen=None):
        seen = set() if seen is None else seen
        pack(documents, self.packers, seen=seen, encoder=self.encoder)
        return self

    def texts(self, side):
        """Whole documents; what the last one was cut to does not count."""
        text = "".join(map(chr, self.tokens[side]))
        return text.split("\0")[:-1]


def document(number, size=40):
    return Document(f"{number:06}" + "x" * (size - 6), "somewhere")


def sides_of(texts):
    return {text: side_of(Document(text, "").digest) for text in texts}


def needs(validation, calibration, training):
    return {"validation": validation, "calibration": calibration, "training": training}


texts = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), max_size=60
)


@settings(max_examples=100)
@given(texts=texts, needed=st.builds(needs, *[st.integers(0, 300)] * 3), seed=st.integers(0, 3))
def test_no_document_is_on_two_sides_or_counted_twice(texts, needed, seed):
    packed = Packed(needed, seed=seed).fill(Document(text, "") for text in texts)
    for side in SIDES:
        assert len(packed.tokens[side]) == packed.packers[side].found <= needed[side]
    written = [text for side in SIDES for text in packed.texts(side)]
    assert len(written) == len(set(written))
    assert set(written) <= set(texts)


def test_sides_hold_their_share():
    sides = [side_of(document(number).digest) for number in range(20_000)]
    for side, share in SHARES.items():
        assert abs(sides.count(side) / len(sides) - share) < 0.01


def test_a_document_is_on_its_side_unless_it_is_borrowed():
    packed = Packed(needs(500, 500, 2_000)).fill(map(document, count()))
    for side in SIDES:
        assert len(packed.texts(side)) > 10
        assert set(sides_of(packed.texts(side)).values()) == {side}


@settings(max_examples=20)
@given(order=st.permutations(range(120)), seed=st.integers(0, 9))
def test_what_is_borrowed_does_not_depend_on_the_order(order, seed):
    """Only as much as is missing, and never what the side has of its own."""
    needed = needs(30 * 41, 30 * 41, 20 * 41)
    packed = Packed(needed, seed=seed).fill(map(document, order))
    expected = Packed(needed).fill(map(document, range(120)))
    for side in ("validation", "calibration"):
        assert packed.packers[side].missing == 0
        assert set(packed.texts(side)) == set(expected.texts(side))
        own = {document(n).text for n in order if side_of(document(n).digest) == side}
        assert own < set(packed.texts(side))
    assert packed.packers["training"].missing == 0


def test_a_short_source_says_all_that_it_holds():
    """Every token that could be had is found, whoever lacks some."""
    for needed in (needs(10**6, 0, 0), needs(0, 10**6, 0), needs(0, 0, 10**6)):
        packed = Packed(needed).fill(map(document, range(300)))
        (side,) = (side for side in SIDES if needed[side])
        others = sum(side_of(document(n).digest) not in (side, "training") for n in range(300))
        assert packed.packers[side].found == (300 - others) * 41


def test_a_side_does_not_depend_on_how_much_the_others_ask():
    """So that a longer retraining is measured on the same held-out text."""
    short, long = Packed(needs(500, 100, 100)), Packed(needs(500, 4_000, 9_000))
    for packed in (short, long):
        packed.fill(map(document, count()))
    assert short.tokens["validation"] == long.tokens["validation"]


def test_the_seed_draws_the_order():
    first, again, other = (Packed(needs(500, 500, 4_000), seed=seed) for seed in (0, 0, 1))
    for packed in (first, again, other):
        packed.fill(map(document, count()))
    assert first.tokens == again.tokens
    for side in SIDES:
        assert first.tokens[side] != other.tokens[side]


def test_few_tokens_come_from_many_documents():
    """A passage each, though every document would be enough."""
    long = [Document("\n\n".join(f"{n:06}" + "x" * 1_000 for _ in range(50)), "") for n in range(100)]
    packed = Packed(needs(0, 0, 10 * PASSAGE_CHARACTERS), buffer_characters=10**7).fill(long)
    assert len({text[:6] for text in packed.texts("training")}) >= 6


@pytest.mark.parametrize(
    "needed", [needs(4_000, 8_000, 200_000), needs(4_000, 0, 0), needs(0, 0, 4_000), needs(0, 0, 0)]
)
def test_no_more_is_read_than_is_needed(needed):
    """Buffers are filled once; then what is read is what the side that waits longest wants of its share."""
    read = 0

    def counted():
        nonlocal read
        for number in count():
            read += 300
            yield document(number, 300)

    Packed(needed, buffer_characters=100_000).fill(counted())
    # A token is taken to be four characters, which is right for real tokenizers.
    assert read <= 1.5 * (100_000 + 4 * max(needed[side] / SHARES[side] for side in SIDES))


def test_memory_does_not_grow_with_what_is_read():
    """Forty megabytes go by; a tenth of that is far more than buffers, hashes and reserve take."""
    size, number = 20_000, 2_000
    needed = needs(1_000, 1_000, 10**9)
    packed = Packed(needed)
    packed.packers["training"]._write = lambda tokens: None
    tracemalloc.start()
    try:
        packed.fill(document(each, size) for each in range(number))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert packed.packers["training"].found > 0.8 * size * number
    assert peak < size * number / 10


def test_a_source_for_one_side_gives_all_its_documents_to_it():
    seen = set()
    packed = Packed(needs(3_000, 0, 0))
    pack_whole(map(document, range(2_000)), packed.packers["validation"], seen=seen, read_to_end=False)
    assert set(sides_of(packed.texts("validation")).values()) == set(SIDES)
    assert len(seen) < 1_000


def test_what_another_source_held_is_not_taken_again():
    """To the last document of the source for validation, needed or not."""
    seen = set()
    packed = Packed(needs(3_000, 400, 4_000))
    pack_whole(map(document, range(200)), packed.packers["validation"], seen=seen, read_to_end=True)
    packed.fill(map(document, range(400)), seen)
    assert not {text[:6] for side in SIDES[1:] for text in packed.texts(side)} & {
        f"{n:06}" for n in range(200)
    }


@given(
    total=st.integers(0, 10_000),
    weights=st.lists(st.floats(0, 1e300, allow_nan=False), min_size=1, max_size=8).filter(any),
)
def test_shares_are_in_proportion_to_less_than_one(total, weights):
    from fractions import Fraction

    shares = apportion(total, weights)
    assert sum(shares) == total
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - Fraction(weight) * total / sum(map(Fraction, weights))) < 1
    assert apportion(total, [2 * weight for weight in weights]) == shares


CHAT = [{"role": "user", "content": "the model reads"}, {"role": "assistant", "content": "a token"}]


def chat(template):
    tokenizer = word_tokenizer()
    tokenizer.chat_template = template
    return Encoder(tokenizer).passages(
        Document(json.dumps(CHAT), "data.source: x.jsonl: row 3", is_chat=True)
    )


def test_a_chat_becomes_text_by_the_template_of_the_tokenizer():
    template = "{% for each in messages %}{{ each.role }}: {{ each.content }} . {% endfor %}"
    assert chat(template) == ["user: the model reads . assistant: a token . "]


def test_a_template_that_tells_the_day_tells_the_same_one_for_ever():
    assert chat("{%- macro day() %}{{ strftime_now('%d %b %Y') }}{% endmacro %}{{ day() }}") == [
        "01 Jan 2026"
    ]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "found a chat, allowed for this tokenizer, which has no chat template: text"),
        ("{{ raise_exception('roles must alternate') }}", "chat template refuses it: roles must alternate"),
        ("{{ messages[7].content + 'x' }}", "chat template refuses it: "),
        ("{% if %}", "chat template refuses it: "),
    ],
)
def test_a_chat_that_cannot_become_text_names_its_row(template, message):
    with pytest.raises(UnreadableData, match=f"^data.source: x.jsonl: row 3: .*{message}"):
        chat(template)


def test_a_passage_of_nothing_is_not_a_token():
    assert list(islice(Encoder(word_tokenizer()).tokens([]), 1)) == []
