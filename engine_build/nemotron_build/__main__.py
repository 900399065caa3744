"""`python -m nemotron_build` is `nemotron-build`."""

import sys

from nemotron_build.cli import main

sys.exit(main())
