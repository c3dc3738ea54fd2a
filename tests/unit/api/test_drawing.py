"""What is drawn of one trial and of rankings is what is stored, and nothing is guessed."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.dashboard.axes_panel import bars
from api.dashboard.drawing import UNKNOWN, drawing, layer_words
from api.dashboard.ranking_panel import heat_map
from api.dashboard.story_panel import story
from nas.agreement import Agreement
from nas.chronicle import Happening
from nas.search import AxisImportance
from tests.searches import START, make_trial

PARENT = replace(
    make_trial().architecture, num_layers=6, hidden_size=128, intermediate_size=256, num_attention_heads=8
)
STUDENT = replace(PARENT, num_layers=4, hidden_size=96)


def cells(text):
    return re.findall(r'<i class="(kept|dropped)" title="layer (\d+)', text)


def test_kept_layers_are_drawn_one_by_one():
    text = drawing(PARENT, STUDENT, (0, 1, 4, 5))
    assert cells(text) == [
        ("kept", "0"), ("kept", "1"), ("dropped", "2"), ("dropped", "3"), ("kept", "4"), ("kept", "5"),
    ]  # fmt: skip
    assert "without 2 to 3, counted from 0" in text
    assert "96 of 128" in text
    assert "width: 75.00%" in text
    assert "256 of 256" in text
    assert text.count("kept whole") == 2 * 3, "what is seen and what is read aloud, of three axes"


def test_which_layers_were_kept_is_never_guessed():
    text = drawing(PARENT, STUDENT, None)
    assert cells(text) == []
    assert "4 of 6" in text
    assert UNKNOWN in text


def test_a_whole_depth_needs_no_record():
    assert [state for state, _ in cells(drawing(PARENT, PARENT, None))] == ["kept"] * 6


@given(st.sets(st.integers(0, 20)))
def test_dropped_layers_in_words_are_the_dropped_layers(kept):
    words = layer_words(21, kept)
    told = set()
    for part in filter(None, words.split(", ")):
        first, _, last = part.partition(" to ")
        told |= set(range(int(first), int(last or first) + 1))
    assert told == set(range(21)) - kept


def agreement(earlier, later, tau, num_trials=9):
    return Agreement(earlier=earlier, later=later, num_trials=num_trials, tau=tau)


def test_rankings_as_a_table():
    text = heat_map([agreement(0, 10, -0.5), agreement(0, 20, 0.25), agreement(10, 20, None, 2)])
    cells = re.findall(r"<td[^>]*>(.*?)</td>", text)
    assert [re.sub("<[^>]+>", " ", cell).split() for cell in cells] == [
        ["tokens"],
        ["-0.50", "n", "=", "9"],
        ["0.25", "n", "=", "9"],
        [],
        ["too", "few", "n", "=", "2"],
    ]
    assert "rgba(224, 49, 49, 0.28)" in text, "what is reversed is red"


def test_rankings_where_all_tie():
    assert "all tie" in heat_map([agreement(0, 10, None)])


def test_axes_by_importance():
    text = bars(
        AxisImportance(num_trials=9, shares={"num_layers": 0.25, "intermediate_size.of_hidden": 0.75})
    )
    assert re.findall(r"width: ([\d.]+)%", text) == ["75.00", "25.00"]
    assert text.index("MLP size") < text.index("layers")


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a & b"])
def test_what_workers_say_is_text(text):
    told = story([Happening(at=START, text=f"failed: {text}", tone="bad")])
    assert "<script" not in told
    assert "<img" not in told
    assert "Failed: " in told
