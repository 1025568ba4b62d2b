"""`python -m holdfast.lab.blast` is `holdfast blast` without the rest of the command line."""

import sys

from holdfast.lab.blast.main import main

sys.exit(main(sys.argv[1:]))
