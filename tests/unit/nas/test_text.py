"""What YAML can say and JSON cannot is refused by everything that reads people's texts, and no failure."""

import json

import pytest

from nas.control import parse_limits, parse_sizes, read_order
from nas.edits import read_edit
from nas.errors import InvalidEdit, InvalidOrder, InvalidSpec
from nas.spec import parse_spec
from nas.text import read_text

TAGGED = (
    "!!binary aGk=", "!!set {a}", "!!timestamp 2020-01-01", "!!timestamp x", "!!omap [a: 1]", "!!pairs [a: 1]",
    "!!bool maybe", "!!int ''", "!!float ''", "!!str [a]", "{? !!binary aGk= : 1}", "{? !!timestamp 2020-01-01 : 1}",
)  # fmt: skip
READERS = {
    "limits": lambda text: parse_limits(read_order(text)),
    "sizes": lambda text: parse_sizes(read_order(text)),
    "edit": read_edit,
    "spec": parse_spec,
}


@pytest.mark.parametrize("tagged", TAGGED)
@pytest.mark.parametrize("field", ["", "num_trials: ", "hidden_size: ", "notes: ", "parent_config: "])
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_tagged_values_are_refused_where_they_stand(read, field, tagged):
    with pytest.raises((InvalidSpec, InvalidOrder, InvalidEdit), match="line 1, column "):
        read(field + tagged)


@pytest.mark.parametrize(
    "tagged", ["!!int 3", "!!float 2.5", "!!bool yes", "!!str 3", "!!seq [1]", "!!map {a: 1}"]
)
def test_tags_that_name_what_json_has_are_harmless(tagged):
    json.dumps(read_text(tagged))
