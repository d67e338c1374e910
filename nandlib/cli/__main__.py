"""``python -m nandlib.cli``: the command line in this very process."""

from nandlib.cli import main

main()
