"""How a trial is to be promoted, as people ask for it: a merge patch of what its search says of that."""

from collections.abc import Mapping
from typing import Any

from nas.errors import InvalidOrder, InvalidSpec
from nas.patch import merge
from nas.promotion import LEAST_SHARDS, Promotion
from nas.search import SearchSpec
from nas.spec import parse_spec, shown, spec_to_json
from nas.text import read_text


def read_promotion(text: str) -> Mapping[str, Any]:
    """Return the merge patch that a text in YAML or JSON is; an empty one changes nothing.

    Raises:
        InvalidOrder: It is none.
    """
    try:
        found = read_text(text) if text.strip() else {}
    except InvalidSpec as error:
        raise InvalidOrder([("recipe", reason) for _, reason in error.problems]) from None
    if not isinstance(found, Mapping):
        raise InvalidOrder((("promotion", f"found {shown(found)}, allowed: a mapping of fields"),))
    return found


def asked_promotion(spec: SearchSpec, patch: Any) -> Promotion | None:
    """Return the promotion that a merge patch (RFC 7396) makes of the spec's; None: as the spec says.

    Where the spec has none, its trials' own recipe is what is patched, and the patch must say how long.

    Raises:
        InvalidOrder: With every problem that was found.
    """
    if not isinstance(patch, Mapping):
        raise InvalidOrder((("promotion", f"found {shown(patch)}, allowed: a mapping of fields"),))
    if not patch:
        return None
    content = spec_to_json(spec)
    if spec.promotion is None:
        training = patch.get("training", {})
        if isinstance(training, Mapping) and training.get("num_tokens") is None:
            raise InvalidOrder((("promotion.training.num_tokens", "missing, allowed: tokens to train on"),))
        own = Promotion(training=spec.training)
        shards = max(LEAST_SHARDS, min(own.num_shards, spec.data.validation_blocks))
        content["promotion"] = {"training": content["training"], "num_shards": shards}
    try:
        return parse_spec(merge(content, {"promotion": patch})).promotion
    except InvalidSpec as error:
        raise InvalidOrder(error.problems) from None
