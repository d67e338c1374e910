"""Unpacking what was downloaded, without trusting it."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path, PurePosixPath

from nandlib.errors import DataError

if sys.version_info >= (3, 11, 4):
    import tarfile
else:  # Debian 12's own Python: no filters yet
    from backports import tarfile  # type: ignore[no-redef]


MOST = 100  # times an archive's size: images hardly shrink when they are packed


def extract(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip archive: nothing outside `folder`, no devices, no links that lead out, no more than there is room for.

    Raises:
        DataError: If the archive is damaged, holds an entry that would leave the folder, or more than `MOST` times its size.
    """
    folder.mkdir(parents=True)
    try:
        room = min(MOST * archive.stat().st_size, shutil.disk_usage(folder).free)
        if not tarfile.is_tarfile(archive) and zipfile.is_zipfile(archive):  # a tar may end in a zip
            with zipfile.ZipFile(archive) as packed:
                for entry in packed.infolist():
                    path = PurePosixPath(entry.filename.replace("\\", "/"))
                    if path.is_absolute() or ".." in path.parts:
                        raise ValueError(f"{entry.filename} would leave the folder")
                    room = _left(room, entry.file_size)
                    packed.extract(entry, folder)
            return
        with tarfile.open(archive) as tar:
            for member in tar:
                room = _left(room, member.size)
                tar.extract(member, folder, filter="data")
    except Exception as error:  # of a library that trusts what it reads
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(f"{archive} was not unpacked: {error}") from error


def _left(room: int, size: int) -> int:
    if size > room:
        raise ValueError(f"unpacked it is more than {MOST} times as large, or than there is room for")
    return room - size
