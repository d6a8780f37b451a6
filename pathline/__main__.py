"""`python -m pathline`."""

import sys

from pathline.cli.main import main

sys.exit(main())
