"""Warm processes: stages and notebooks that begin where the slow imports are done.

Every stage of the pipeline and every notebook's kernel is a process of its own, and most of them import torch, pandas and matplotlib
for longer than they work. While `warm_processes` is open, one process holds these packages and waits; a new process that calls
`become_warm` hands its arguments, folder, environment and terminal over, a fork of the waiting one does the work, and the new process
ends with the fork's exit code. Only packages of others are held: a fork imports the project's own code anew, and shares no state with
another. On Linux; elsewhere everything runs as it would without.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

ADDRESS = "NAND_WARM"  # environment variable: interpreter and socket of the waiting process
PACKAGES = (  # in the order in which stages want them; what is asked for in between does not wait for the rest
    "torch", "pandas", "typer", "pydantic", "ruamel.yaml", "safetensors.torch", "pandera.pandas", "pyarrow.parquet", "sklearn.metrics",
    "statsmodels.stats.multitest",
    "scipy.stats", "scipy.ndimage", "matplotlib.pyplot", "papermill", "nbstripout", "ipykernel.kernelapp", "seaborn", "timm",
    "transformers", "anomalib.models.image.patchcore.torch_model", "anomalib.models.image.winclip.torch_model", "skimage.measure",
    "nbconvert",
)  # fmt: skip


@contextmanager
def warm_processes(packages: Sequence[str] = PACKAGES) -> Iterator[dict[str, str]]:
    """Start the waiting process; gives what processes need in their environment to find it, and ends it afterwards.

    Args:
        packages: What it imports; modules of this project would hide later changes of theirs.
    """
    if sys.platform != "linux" or ADDRESS in os.environ:  # there is one already
        yield {}
        return
    with tempfile.TemporaryDirectory() as folder:  # private to this user
        address = str(Path(folder) / "socket")
        command = [sys.executable, "-P", "-c", "from nandlib.warm import wait; wait()", address, *packages]
        waiting = subprocess.Popen(command, stdin=subprocess.PIPE)
        try:
            yield {ADDRESS: f"{sys.executable}{os.pathsep}{address}"}
        finally:
            waiting.communicate()  # it ends with its standard input


def become_warm(module: str, arguments: Sequence[str]) -> None:
    """Have ``python -m module arguments`` done by a warm process, and end with its exit code; return if none waits."""
    interpreter, _, address = os.environ.get(ADDRESS, "").partition(os.pathsep)
    if interpreter != sys.executable:
        return
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(address)
    except OSError:
        return
    request = {"module": module, "arguments": [*arguments], "folder": os.getcwd(), "environment": dict(os.environ)}
    socket.send_fds(connection, [b"\n"], [0, 1, 2])
    connection.sendall(json.dumps(request).encode() + b"\n")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process has it too, and ends
    code = connection.recv(1)
    sys.exit(code[0] if code else 1)


def wait() -> None:
    """Hold packages and fork for every request, until the standard input ends. Arguments: the socket's address, the packages."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener, working = socket.socket(socket.AF_UNIX), dict[int, _Work]()
    address, *packages = sys.argv[1:]
    listener.bind(address)
    listener.listen()
    while True:
        asking = [work.connection for work in working.values()]
        ready, _, _ = select.select([listener, sys.stdin, *working, *asking], [], [], 0 if packages else None)
        for work in list(working.values()):
            if work.ended in ready:
                working.pop(work.ended).tell()
            elif work.connection in ready:  # whoever asked has gone
                os.kill(work.process, signal.SIGKILL)
        if listener in ready:
            with suppress(OSError, ValueError):  # whoever asked has gone before saying what for
                work = _Work(listener)
                working[work.ended] = work
        elif sys.stdin in ready:
            for work in working.values():  # a kernel that nobody shut down
                os.kill(work.process, signal.SIGKILL)
            return
        elif packages:
            with suppress(ImportError):  # a fork that needs it says what is missing
                import_module(packages.pop(0))
            gc.freeze()  # a fork's garbage collector need not look at what is held, which would copy its memory


class _Work:
    """One request: a fork that does it, and the connection that waits for its exit code."""

    def __init__(self, listener: socket.socket) -> None:
        self.connection, _ = listener.accept()
        _, terminal, _, _ = socket.recv_fds(self.connection, 1, 3)
        with self.connection.makefile("rb") as lines:
            request = json.loads(lines.readline())
        self.process = os.fork()
        if self.process == 0:
            listener.close()
            self.connection.close()
            _do(request, terminal)
        for given in terminal:
            os.close(given)
        self.ended = os.pidfd_open(self.process)

    def tell(self) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        with suppress(OSError):
            self.connection.send(bytes([code if code >= 0 else 128 - code]))
        self.connection.close()
        os.close(self.ended)


def _do(request: dict[str, Any], terminal: list[int]) -> NoReturn:
    for standard, given in enumerate(terminal):
        os.dup2(given, standard)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = [request["module"], *request["arguments"]]
    code: int | str | None = 1
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))  # taking down what is held would copy its memory first


if __name__ == "__main__":
    become_warm(sys.argv[1], sys.argv[2:])
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
