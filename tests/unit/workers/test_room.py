"""A search that had ended goes on only where what it measured compares with what it would measure."""

from dataclasses import replace

import pytest

from minitron.errors import ArtifactMismatch
from nas.search import Artifacts
from tests.searches import make_search
from workers.room import require_same

BEFORE = Artifacts(parent="p", blocks="b", validation="v", scores="s", teacher="t")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"parent": "other"}, "its parent or its data have changed"),
        ({"validation": "other"}, "its parent or its data have changed"),
        ({"loss_version": 2}, "version 1 of the held-out loss, and would be by version 2"),
    ],
)
def test_losses_that_would_not_compare_are_refused(changes, words):
    search = make_search(made_from=BEFORE)
    with pytest.raises(ArtifactMismatch, match=f"{words}.* would not compare; allowed: nas clone search-1"):
        require_same(search, replace(BEFORE, **changes))


@pytest.mark.parametrize("before", [None, BEFORE])
def test_other_answers_and_blocks_compare(before):
    require_same(make_search(made_from=before), replace(BEFORE, blocks="more", teacher="other"))
