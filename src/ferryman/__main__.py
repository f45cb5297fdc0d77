"""Run the command line as `python -m ferryman`."""

import sys

from ferryman.cli.main import main

sys.exit(main())
