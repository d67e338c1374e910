"""Unpacking what was downloaded, without trusting it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from nandlib.errors import DataError

if sys.version_info >= (3, 11, 4):
    import tarfile
else:  # Debian 12's own Python: no filters yet
    from backports import tarfile  # type: ignore[no-redef]


def extract(archive: Path, folder: Path) -> None:
    """Unpack a tar archive: nothing outside `folder`, no devices, no links that lead out.

    Raises:
        DataError: If the archive is damaged, or holds an entry that would leave the folder.
    """
    folder.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except Exception as error:  # of a library that trusts what it reads
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"{archive} was not unpacked: {error}") from error
