"""Files that lie elsewhere: whatever `fsspec` opens."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.request import url2pathname

import fsspec

from nandlib.errors import DataError


def is_address(place: Path | str) -> bool:
    """Whether `fsspec` opens it, and not this machine's file system."""
    return isinstance(place, str) and "://" in place


def local_path(place: Path | str) -> Path | str:
    """``file:///images`` as a path of this machine; all else as it is."""
    scheme, found, path = str(place).partition("://")
    if not found or scheme not in ("file", "local"):
        return place
    return Path(path) if os.path.exists(path) else Path(url2pathname(path))  # as `Path.as_uri` writes it


def below(address: str, name: str) -> str:
    """The address of what lies in a folder, chained (``zip://folder::https://…/x.zip``) or not."""
    links = address.split("::")
    place = next(k for k, link in enumerate(links) if "://" in link)  # before it stand caches alone
    links[place] += f"{'' if links[place].endswith('/') else '/'}{name}"
    return "::".join(links)


def refuse_pipe(path: Path | str) -> None:
    """Raise OSError for a pipe, a socket or a device, which might never end, or never begin."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError("it is no regular file")


def read(path: str) -> bytes:
    """The content of a file or address.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        if not is_address(path):
            refuse_pipe(path)
            return Path(path).read_bytes()
        with fsspec.open(path, "rb") as file:
            content: bytes = file.read()
            return content
    except Exception as error:  # of any file system
        nobody = is_address(path) and isinstance(error, FileNotFoundError)  # whose words are of addresses with asterisks
        raise DataError(
            f"{path} cannot be read ({'nothing is there, or nobody answers' if nobody else error}): bring it back, or leave it out"
        ) from error
