"""The command line `nand`. Its commands are thin: they read arguments, call the library and print."""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from typing import NoReturn

import typer

from nandlib.cli import apply, adapt, explore, research, benchmark, stages, studies  # noqa: F401 # isort: skip (commands are shown in this order)
from nandlib.cli.app import app
from nandlib.errors import NandError
from nandlib.extras import advice
from nandlib.memory import keep_freed_memory

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM)
ANOTHER_KIND = (errno.EEXIST, errno.EISDIR, errno.ENOTDIR)  # a file where a folder must be, or a folder where a file


def _write_utf8() -> None:
    """Into files and pipes whatever the system's own encoding is, unless one is asked for; a terminal that lacks a letter shows another."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower() != "utf-8" and "PYTHONIOENCODING" not in os.environ:
            if not stream.isatty():
                stream.reconfigure(encoding="utf-8", errors=stream.errors)
            elif stream.errors == "strict":
                stream.reconfigure(errors="replace")


def _said(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    """A warning of ours as a sentence, not as a line of code."""
    return f"nand: {message}\n" if category is UserWarning else f"{category.__name__}: {message}\n"


def main() -> None:
    """Entry point: an error of the user's making is one clear message on stderr and exit code 1, not a traceback."""
    keep_freed_memory()
    _write_utf8()
    warnings.formatwarning = _said
    try:
        app()
    except NandError as error:
        _end(str(error))
    except FileNotFoundError as error:
        name = error.filename or str(error).removeprefix("No such file or directory: ")  # so says safetensors
        _end(f"{name} is not there: give another path, or run first what writes it ('nand study run NAME' for results)")
    except OSError as error:
        if error.errno in ANOTHER_KIND and error.filename:
            _end(f"{error.filename}: {error.strerror}: give another path, or move what is there")
        if error.errno not in NO_ROOM:
            raise
        place = error.filename or "a file that was written"
        _end(f"{place}: {error.strerror}: make room, or give the right to read or write there, and run the same command again")
    except ModuleNotFoundError as error:
        line = advice(error)
        if line is None:
            raise
        _end(line)


def _end(message: str) -> NoReturn:
    typer.secho(f"nand: {message}", fg=typer.colors.RED, err=True)
    sys.exit(1)
