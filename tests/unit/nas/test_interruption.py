"""Ctrl-C is kept until it is looked for, wherever the program was when it came."""

import signal

import pytest

from nas.interruption import Interruption

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_is_kept_and_the_second_raised_at_once(number):
    with Interruption() as interruption:
        interruption.check()
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)


def test_it_outlives_code_that_drops_exceptions():
    """As pydantic's core does while it builds a schema."""

    class Drops:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    with Interruption() as interruption:
        dropped = Drops()
        del dropped
        with pytest.raises(KeyboardInterrupt):
            interruption.check()


def test_afterwards_signals_do_what_they_did():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interruption():
        signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == before
