"""``python -m workers --search ID``: run one search in this process; see ``workers.runner``."""

import argparse
import logging
import sys

from nas.errors import SearchError
from nas.settings import Settings
from workers.runner import run_search


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m workers", description="Run one search to its end.")
    parser.add_argument("--search", required=True, metavar="ID", help="the search to run")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return run_search(arguments.search, Settings())
    except SearchError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    sys.exit(main())
