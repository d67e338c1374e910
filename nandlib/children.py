"""Processes that are forked to work: they do not outlive the one that waits for them."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel end this process when the thread that forked it has ended, however it did: a killed run leaves nothing behind.

    A pool of such processes lives no longer than the thread that makes it. Does nothing elsewhere than on Linux.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        parent = multiprocessing.parent_process()
        if parent is not None and os.getppid() != parent.pid:  # it ended before the kernel was asked
            os.kill(os.getpid(), signal.SIGKILL)
