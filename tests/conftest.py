"""What tests share. They run in two processes of one thread each (`make test`): nearly twice as fast on two cores as one of two threads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from nandlib.memory import keep_freed_memory
from nandlib.warm import warm_processes

if TYPE_CHECKING:  # slow imports stand in the fixtures: the process that hands out tests runs none
    import torch

    from nandlib.models.mini import MiniModel, TextTower

os.environ["OMP_NUM_THREADS"] = "1"  # of this process and of what the tests start
keep_freed_memory()  # as commands do

ON_THE_TINY_STUDY = {
    "browser",
    "cluster",
    "command_line",
    "explorer",
    "kshot",
    "measures_by_plain_steps",
    "robustness",
    "secrets",
    "shards",
    "trained_studies",
    "pipeline",
}
LONGEST = (  # the tiny study and the stored references with them
    *("browser", "winclip_reference", "aprilgan_reference", "circuit_boards", "wheel", "trained_detectors", "repository", "training"),
    *("integrations", "apply", "examples", "models", "check", "lesson"),
)


class _Scheduling(LoadScopeScheduling):
    """Which tests stay together in one process: those that look at the tiny study, those that compare with stored references, whose last
    file counts what was compared, and the tests of every other file. (xdist's own way, marks, does nothing under pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        stem = nodeid.split("::")[0].removeprefix("tests/test_").removesuffix(".py")
        comparing = "reference" in stem or stem == "projection_training"
        return "tiny study" if stem in ON_THE_TINY_STUDY else "references" if comparing else stem


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """See `_Scheduling`."""
    return _Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _sentences_are_encoded_once() -> Iterator[None]:
    """The text tower is frozen: a process of tests encodes a sentence once, whichever model asks. (Prompts are hundreds of sentences.)"""
    import torch

    from nandlib.models.mini import TextTower

    known, encode = dict[str, torch.Tensor](), TextTower.__call__

    def remembered(tower: TextTower, sentences: Sequence[str], batch: int = 64) -> torch.Tensor:
        new = [sentence for sentence in dict.fromkeys(sentences) if sentence not in known]
        known.update(zip(new, encode(tower, new, batch), strict=True))
        return torch.stack([known[sentence] for sentence in sentences]) if sentences else encode(tower, sentences, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextTower, "__call__", remembered)
        yield


@pytest.fixture(scope="session")
def heads_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained heads with fixed weights: enough wherever the numbers do not matter."""
    import torch

    from nandlib.models.mini import Heads, save_heads

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "heads.safetensors"
    heads = Heads()
    heads.text_map.data += 0.05 * torch.randn(heads.text_map.shape)
    save_heads(heads, path)
    return path


@pytest.fixture(scope="session")
def model(heads_file: Path) -> MiniModel:
    """The embedded model."""
    from nandlib.models.mini import MiniModel

    return MiniModel.load(heads_file)


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., Path]:
    """Write a small folder in MVTec AD layout: two classes, two types each, two images a folder."""

    def write(
        classes: tuple[str, ...] = ("bolt", "cloth"), types: tuple[str, ...] = ("dent", "hair"), suffix: str = ".png", mode: str = "RGB"
    ) -> Path:
        root, rng = tmp_path / "images", np.random.default_rng(0)
        for class_name in classes:
            for part in ("train/good", "test/good", *(f"test/{t}" for t in types)):
                folder = root / class_name / part
                folder.mkdir(parents=True, exist_ok=True)
                for k in range(2):
                    pixels = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
                    Image.fromarray(pixels).convert(mode).save(folder / f"{k:03d}{suffix}")
            for type_name in types:
                folder = root / class_name / "ground_truth" / type_name
                folder.mkdir(parents=True, exist_ok=True)
                for k in range(2):
                    mask = np.zeros((40, 48), np.uint8)
                    mask[10:20, 5:25] = 255
                    Image.fromarray(mask).save(folder / f"{k:03d}_mask.png")
        return root

    return write


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project with the tiny study, run once. Tests that change it belong to test_pipeline.py, which runs last."""
    import tiny_project

    project = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(project))
        shutil.copytree(tiny_project.ROOT / "nandlib", project / "nandlib", ignore=shutil.ignore_patterns("__pycache__"))
        with warm_processes() as tiny_project.WARM:
            patch.undo()
            tiny_project.make(project)
            yield project
    tiny_project.WARM = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, so that no process waits for the other at the end; test_pipeline.py last, since it changes the tiny study
    that other files look at."""

    def rank(item: pytest.Item) -> int:
        stem = _stem(item)
        return len(LONGEST) + (stem == "pipeline") if stem not in LONGEST else LONGEST.index(stem)

    items.sort(key=rank)
    found = {_stem(item) for item in items if "project" in getattr(item, "fixturenames", ())}
    if alone := found - ON_THE_TINY_STUDY:  # would build the study a second time
        raise pytest.UsageError(f"they look at the tiny study: add {', '.join(sorted(alone))} to ON_THE_TINY_STUDY in tests/conftest.py")


def _stem(item: pytest.Item) -> str:
    return item.path.stem.removeprefix("test_")
