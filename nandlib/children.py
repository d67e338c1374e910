"""Processes that are forked to work: they do not outlive the one that waits for them."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel end this process when the one that forked it has ended, however that ended: a killed run leaves nothing behind.

    Does nothing elsewhere than on Linux.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
