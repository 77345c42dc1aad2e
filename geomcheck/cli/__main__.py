"""``python -m geomcheck.cli``."""

import sys

from geomcheck.cli.main import main

sys.exit(main())
