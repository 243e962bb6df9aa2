"""`python -m chaoskit`, the same as `chaoskit`."""

import sys

from chaoskit.cli.main import main

sys.exit(main())
