"""``python -m workers --search ID``: run one search in this process; see ``workers.runner``."""

import argparse
import logging
import os
import sys

from nas import log_lines
from nas.errors import SearchError, StoreFull, StoreUnavailable
from nas.settings import Settings
from nas.supervisor import STORE_AWAY, STORE_FULL
from workers.runner import run_search

logger = logging.getLogger("workers")


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers", description="Run one search to its end.")
    parser.add_argument("--search", required=True, metavar="ID", help="the search to run")
    arguments = parser.parse_args()
    try:
        settings = Settings()
        people = "%(asctime)s %(levelname)s %(name)s: %(message)s"
        log_lines.configure(settings.log_format, text=people, search_id=arguments.search)
        # Ray puts this process's directory on the import path of its workers: none that holds packages, then.
        settings.home.mkdir(parents=True, exist_ok=True)
        os.chdir(settings.home)
        return run_search(arguments.search, settings)
    except StoreUnavailable as error:
        # Logged, not printed: where the disk is full, the log may be too, and logging bears it.
        logger.error("%s", error)  # noqa: TRY400 - the reason is enough
        return STORE_FULL if isinstance(error, StoreFull) else STORE_AWAY
    except SearchError as error:
        log_lines.leave(error)


if __name__ == "__main__":
    sys.exit(main())
