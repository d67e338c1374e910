"""``python -m nandlib``, and the command line `nand`: in a warm process if one waits."""

from __future__ import annotations

import sys

from nandlib.warm import become_warm


def main() -> None:
    """Entry point of `nand`."""
    become_warm("nandlib.cli.__main__", sys.argv[1:])
    from nandlib.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
