"""What runs the trials that a driver hands out: the interface that each way of running them has."""

from typing import Protocol

from nas.driver import Driver


class Executor(Protocol):
    """Runs trials where there is room for them, and obeys the driver.

    Asks ``next_trial`` whenever it could run one more. For each trial it calls ``on_attempt`` first, then
    ``on_pruned``, ``on_tokens`` and ``on_point``, and ``on_end`` unless a verdict ended it. The trial of a lost worker is
    given to another, by a new ``on_attempt``, or reported by ``on_end``. Returns after DONE, when nothing
    runs any more.
    """

    def run(self, driver: Driver) -> None:
        """Run the search to its end; raises what the driver raises."""
        ...
