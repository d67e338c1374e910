"""A disk that is full, and one that nobody may write to: a small file system in memory, where this system lets tests have one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nandlib import add_normality
from nandlib.cli import main
from nandlib.detectors.config import PradotConfig
from nandlib.detectors.pradot import Pradot
from nandlib.detectors.training import Run
from nandlib.errors import DataError
from nandlib.streaming.apply import apply
from nandlib.streaming.here import Here
from nandlib.streaming.listing import Listing
from nandlib.streaming.work import How
from nandlib.study.store import save

MESSAGE = "make room or give the right to write there, and run the same command again"
NORMALS = [Image.fromarray(np.random.default_rng(k).integers(0, 255, (48, 48, 3), dtype=np.uint8)) for k in range(3)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[str], None]]]:
    """A folder of 128 kB, and what changes it ("size=64m", "ro")."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> bool:
        return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False).returncode == 0

    if sys.platform != "linux" or os.geteuid() or not mount("size=128k"):
        pytest.skip("nobody but root can have a small file system here")
    try:
        yield folder, lambda options: subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def images(folder: Path) -> Path:
    for k in range(8):
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(folder / f"{k}.png")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_results_go_on_when_there_is_room(disk, model, tmp_path):
    folder, change = disk
    adapted = add_normality(lambda own: np.stack([np.asarray(one.convert("L"), np.float32) for one in own]), "hair", model=model)
    nothing, listing, how = adapted.remove("hair"), Listing.of([images(tmp_path / "images")]), How(store="shards", overlays=False, batch=2)

    def run(out: Path) -> None:
        apply(lambda: nothing, listing, out, {"of": "a test"}, how, engine=Here(1))

    run(tmp_path / "whole")
    with pytest.raises(DataError, match=rf"cannot be written \(.*No space left.*\): {MESSAGE}"):
        run(folder / "out")
    kept = contents(folder / "out/shards")
    assert kept and not [name for name in kept if "partial" in name]
    change("size=64m,ro")
    with pytest.raises(DataError, match=rf"cannot be written to \(Read-only file system\): {MESSAGE}"):
        run(folder / "out")
    change("rw")
    run(folder / "out")
    assert contents(folder / "out") == contents(tmp_path / "whole")


def test_a_training_goes_on_when_there_is_room(disk, model, tmp_path):
    folder, change = disk
    config = PradotConfig(epochs=3)

    def fit(resume: Path) -> Path:
        return Pradot.fit({"x": NORMALS}, model, config, Run(resume)).save(resume.with_suffix(".safetensors"))

    whole = fit(tmp_path / "whole.pt").read_bytes()
    with pytest.raises(DataError, match=rf"state\.pt cannot be written \(No space left on device\): {MESSAGE}"):
        fit(folder / "state.pt")
    assert not list(folder.iterdir())
    change("size=64m")
    assert fit(folder / "state.pt").read_bytes() == whole


def test_a_stage_leaves_no_part_of_a_file(disk):
    folder, _ = disk
    with pytest.raises(DataError, match=rf"x\.safetensors cannot be written \(.*No space left.*\): {MESSAGE}"):
        save(folder / "x.safetensors", {"maps": torch.zeros(100_000)}, {}, "a fingerprint")
    assert not list(folder.iterdir())


def test_whatever_else_a_command_writes(disk, monkeypatch, capsys):
    folder, _ = disk
    monkeypatch.setattr("nandlib.cli.app", lambda: (folder / "table.csv").write_bytes(bytes(1_000_000)))
    with pytest.raises(SystemExit):
        main()
    assert "a file that was written: No space left on device: make room, or give the right" in capsys.readouterr().err
