"""`python -m pathline`."""

import os
import sys

from pathline.cli.main import main

code = main()
if "RANK" in os.environ:  # started by torchrun: a thread that weights were shared out with may abort Python as it ends
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
