"""``python -m fastent``: the command line."""

import sys

from fastent.cli import main

if __name__ == "__main__":
    sys.exit(main())
