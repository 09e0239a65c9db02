"""``python -m accord``."""

import sys

from accord.cli import main

if __name__ == "__main__":  # worker processes import this module too
    sys.exit(main())
