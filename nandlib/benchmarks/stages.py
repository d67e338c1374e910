"""How long every stage of a study takes, and how much memory all its processes hold at most."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import psutil

from nandlib.data.held import held
from nandlib.errors import DataError
from nandlib.settings import read_yaml
from nandlib.study.open_study import OpenStudy

COLUMNS = ["stage", "seconds", "peak_gb"]
INTERVAL = 0.5  # seconds between two looks at the memory


def stage_times(study: OpenStudy) -> pd.DataFrame:
    """Run every stage of ``dvc.yaml`` for a study once more, in their order, without DVC, on this machine as it is now.

    Results are written anew; nothing that a stage has kept is reused.

    Args:
        study: Registered; its images are drawn or there.

    Returns:
        `COLUMNS`, a row a stage and a last row for all: wall-clock seconds, and the largest sum over processes of the memory that each
        holds (shared pages in equal parts), in gigabytes (10⁹ bytes).

    Raises:
        DataError: If a stage fails.
    """
    rows = []
    stages = read_yaml(study.root / "dvc.yaml")["stages"]
    with held(study.root / ".dvc" / "tmp"):  # as `nand repro` does: the files are those of a study's run
        for path in (study.data / "similarities", study.data / "maps"):
            for file in (*path.rglob("*.safetensors"), *path.rglob("*.pt")):
                file.unlink()
        for name, stage in stages.items():
            if (name == "images" and study.config.data.drawn is None) or (name == "paper" and not study.compared):
                continue
            words = stage["do"]["cmd"].replace("${nand}", "").replace("${key}", study.name).split()
            rows.append((name, *_measured([str(Path(sys.executable).parent / "nand"), *words], study.root, name)))
    table = pd.DataFrame(rows, columns=COLUMNS)
    table.loc[len(table)] = ["all", table["seconds"].sum(), table["peak_gb"].max()]
    return table.round({"seconds": 1, "peak_gb": 2})


def _measured(command: list[str], folder: Path, name: str) -> tuple[float, float]:
    start, peak = time.perf_counter(), 0.0
    environment = os.environ | {"PYTHONPATH": str(folder)}
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=said) as process,
    ):
        while process.poll() is None:
            peak = max(peak, _memory(process.pid))
            time.sleep(INTERVAL)
        if process.returncode:
            said.seek(0)
            raise DataError(f"stage '{name}' failed: {said.read()[-500:]}")
    return time.perf_counter() - start, peak


def _memory(pid: int) -> float:
    """Of a process and its children, in gigabytes: what they share once (proportional set size), or not at all where this is not known."""
    total = 0
    try:
        for process in [parent := psutil.Process(pid), *parent.children(recursive=True)]:
            held = process.memory_full_info()
            total += getattr(held, "pss", held.uss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        pass  # a process that has just ended holds nothing
    return total / 1e9
