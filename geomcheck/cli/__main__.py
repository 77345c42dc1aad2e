"""``python -m geomcheck.cli``."""

import sys

from geomcheck.cli import main

sys.exit(main())
