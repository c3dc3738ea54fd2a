"""``python -m tests.fidelity``; see ``tests.fidelity.run``."""

import sys

from tests.fidelity.run import main

if __name__ == "__main__":
    sys.exit(main())
