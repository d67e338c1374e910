from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tiny_project
import torch
from PIL import Image

from nandlib.models.mini import Heads, MiniModel, save_heads
from nandlib.warm import warm_processes

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def heads_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained heads with fixed weights: enough wherever the numbers do not matter."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "heads.safetensors"
    heads = Heads()
    heads.text_map.data += 0.05 * torch.randn(heads.text_map.shape)
    save_heads(heads, path)
    return path


@pytest.fixture(scope="session")
def model(heads_file: Path) -> MiniModel:
    """The embedded model; texts that several tests need are encoded once."""
    model = MiniModel.load(heads_file)
    encode = cache(model.encode_text)
    model.encode_text = lambda sentences: encode(tuple(sentences))
    return model


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
    """test_pipeline.py last: it changes the tiny study that other files look at."""
    items.sort(key=lambda item: item.path.name == "test_pipeline.py")
