"""Progress as lines in a log and as bars in a terminal."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress as Bars

from minitron.console import ShowBars, ShowLines, line
from minitron.progress import Progress


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(stage="download"), "download"),
        (
            Progress(stage="training", done=500, total=2_000, unit="tokens"),
            "training: 500 of 2,000 tokens (25%)",
        ),
        (Progress(stage="blocks", is_cached=True), "blocks: found from earlier work"),
    ],
)
def test_a_line_says_it_in_words(progress, text):
    assert line(progress) == text


def test_a_log_gets_the_first_and_the_last_line_of_a_stage():
    file = io.StringIO()
    show = ShowLines(Console(file=file, width=40))
    show(Progress(stage="[tokenizer]"))
    for done in range(1, 1_001):
        show(Progress(stage="training", done=done, total=1_000, unit="tokens"))
    assert file.getvalue().splitlines() == [
        "[tokenizer]",
        "training: 1 of 1,000 tokens (0%)",
        "training: 1,000 of 1,000 tokens (100%)",
    ]


def test_a_terminal_gets_a_bar_for_each_stage():
    file = io.StringIO()
    with Bars(console=Console(file=file, force_terminal=True, width=100)) as bars:
        show = ShowBars(bars)
        show(Progress(stage="blocks", is_cached=True))
        show(Progress(stage="download"))
        for done in (1, 2):
            show(Progress(stage="training", done=done, total=2, unit="tokens"))
        tasks = [(task.description, task.completed, task.total) for task in bars.tasks]
    assert tasks == [("download", 0, None), ("training", 2, 2)]
    assert "blocks: found from earlier work" in file.getvalue()
