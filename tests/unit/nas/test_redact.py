"""No secret of the environment and nothing that looks like one stays in a text."""

import pytest

from nas.redact import HIDDEN, redacted, secrets_in

ENVIRONMENT = {
    "HF_TOKEN": "correct-horse",
    "AWS_SECRET_ACCESS_KEY": "battery/staple+9",
    "NAS_DATABASE_URL": "postgresql://nas:pa55word@db/nas",
    "SHORT_TOKEN": "abc",
    "HOME": "/home/ann",
}


def test_secrets_of_an_environment_are_known_by_their_names_and_in_addresses():
    assert set(secrets_in(ENVIRONMENT)) == {"correct-horse", "battery/staple+9", "pa55word"}


def test_a_text_without_secrets_stands():
    text = "trial 3: loss 2.1 at 40 tokens, see https://host:8000/a?page=2 of /home/ann"
    assert redacted(text, secrets_in(ENVIRONMENT)) == text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("login correct-horse failed", "correct-horse"),
        ("postgresql://nas:another@db/nas refused", "another"),
        ("GET https://host/x?X-Amz-Signature=0123abcd&part=2", "0123abcd"),
        ("GET https://host/x?token=0123abcd", "0123abcd"),
        ("Authorization: Bearer 0123abcd", "0123abcd"),
        ("using hf_abcdefghijklmnopqrstuvwx", "abcdefghijklmnop"),
    ],
)
def test_secrets_are_cut_out(text, secret):
    found = redacted(text, secrets_in(ENVIRONMENT))
    assert secret not in found
    assert HIDDEN in found
