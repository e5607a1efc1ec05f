"""`python -m blemish`: the command line where no script is installed."""

import sys

from blemish.cli import main

sys.exit(main())
