"""``python -m fivebyfive``."""

import sys

from .cli import main

sys.exit(main())
