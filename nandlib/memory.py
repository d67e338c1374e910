"""One setting of the C library's allocator that this study's speed depends on."""

from __future__ import annotations

import ctypes
import platform

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
