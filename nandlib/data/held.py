"""A folder that one process at a time writes to, and files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from nandlib.errors import DataError

_KEPT = "and run the same command again: what is finished is kept"
_MEND = f"make room or give the right to write there, {_KEPT}"
_SAID = {
    errno.EACCES: f"give the right to write there, or close the program in which it is open, {_KEPT}",
    errno.ENOLCK: "this file system has no locks: give a folder on another",
    errno.EOPNOTSUPP: "this file system has no locks: give a folder on another",
    errno.ENAMETOOLONG: "rename the image to something shorter",
    errno.EISDIR: "a folder has that name: rename it",
    errno.EEXIST: "a file has the name of the folder: rename it, or give another folder",
    errno.ENOTDIR: "a file has the name of a folder above it: rename it, or give another folder",
}


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Nobody else writes to the folder meanwhile; it is made if it does not exist.

    A lock ends with the process that holds it, however that ends: none is ever left behind.

    Raises:
        DataError: If another process is at work there (its number is said), or the folder cannot be written to.
    """
    lock, owner = FileLock(folder / ".lock"), folder / ".owner"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
        owner.write_text(str(os.getpid()))
    except Timeout as error:
        number = "unknown"
        with suppress(OSError):  # it may end just now
            number = owner.read_text() or number
        raise DataError(f"{folder}: process {number} is at work there: wait until it has ended, or take another folder") from error
    except OSError as error:
        lock.release()
        raise DataError(f"{folder} cannot be written to ({error.strerror or error}): {_SAID.get(error.errno or 0, _MEND)}") from error
    try:
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def written(path: Path, write: Callable[[Path], object]) -> None:
    """Have a file written beside its place and moved there when it is whole: a run that is killed leaves no part of one.

    Raises:
        DataError: If it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(partial)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        mend = _SAID.get(getattr(error, "errno", 0) or 0, _MEND)
        raise DataError(f"{path} cannot be written ({getattr(error, 'strerror', None) or error}): {mend}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)  # it is there only if something went wrong
