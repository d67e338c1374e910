"""Memory: one setting of the C library's allocator that this study's speed depends on, and how much a process has held."""

from __future__ import annotations

import ctypes
import platform
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_GIGABYTE = 2**30


def keep_freed_memory() -> None:
    """Let glibc reuse large freed blocks instead of handing each back to the system.

    Tensors of a few megabytes that come and go otherwise cost a page fault per 4 kB every time: the embedded model's
    forward pass is slower. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _GIGABYTE)
        libc.mallopt(_M_TRIM_THRESHOLD, _GIGABYTE)


def peak_gigabytes(children: bool = False) -> float:
    """The most that this process, or the largest of its children that have ended, has held.

    Raises:
        ImportError: On Windows.
    """
    import resource

    found = resource.getrusage(resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF).ru_maxrss
    return found * (1 if sys.platform == "darwin" else 1024) / 1e9  # bytes there, kilobytes elsewhere
