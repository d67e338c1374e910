"""The wheel alone: an empty environment, an empty folder, no network, and the method works."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
OFFLINE = {"HF_HUB_OFFLINE": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def said(*words: object, cwd: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV")}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "nandlib", source / "nandlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    said(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, source, cwd=out)
    (found,) = out.glob("nandlib-*.whl")
    return found


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what it needs, and nothing else; its folder of commands."""
    home = tmp_path_factory.mktemp("environment")
    uv = shutil.which("uv") or (Path(sys.executable).parent / "uv")
    venv.create(home, with_pip=not Path(uv).exists())
    pip = (
        [uv, "pip", "install", "--quiet", "--python", home / "bin/python"]
        if Path(uv).exists()
        else [home / "bin/python", "-m", "pip", "install"]
    )
    said(*pip, "--constraint", ROOT / "constraints.txt", wheel, cwd=home)
    _link_byte_code(*(Path(sysconfig.get_path("purelib", vars={"base": base})) for base in (sys.prefix, str(home))))
    return home / "bin"


def _link_byte_code(ours: Path, theirs: Path) -> None:
    """The byte code of the files that both environments have from one installer's cache: to compile them anew takes a while."""
    for source in theirs.rglob("*.py"):
        own = ours / source.relative_to(theirs)
        compiled = Path(importlib.util.cache_from_source(str(own)))
        if own.is_file() and compiled.is_file() and own.samefile(source):
            place = Path(importlib.util.cache_from_source(str(source)))
            place.parent.mkdir(exist_ok=True)
            place.hardlink_to(compiled)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder with three images of a cloth."""
    rng = np.random.default_rng(0)
    for k in range(3):
        pixels = (128 + 20 * rng.standard_normal((64, 64, 1))).clip(0, 255).astype(np.uint8).repeat(3, 2)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    return tmp_path


def test_the_wheel_holds_the_model_and_little_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    assert sizes["nandlib/resources/models/mini.safetensors"] <= 3_000_000
    assert {"nandlib/resources/models/mini.json", "nandlib/py.typed", "nandlib/models/MODEL_CARD.md"} <= set(sizes)
    assert sum(sizes.values()) < 4_000_000 and not any(name.startswith("tests") for name in sizes)


def test_apply_explain_and_add_normality_work_at_once(empty, folder):
    words = ["-t", "loose thread", "--noun", "cloth"]
    table = json.loads(said(empty / "nand", "apply", ".", *words, "--detector", "patchcore", "--normals", ".", "-o", "out", "--json",
                            cwd=folder, **OFFLINE).stdout)  # fmt: skip
    assert len(table["images"]) == 3 and all(row["score_after"] <= row["score_before"] for row in table["images"])
    assert len(list(folder.glob("out/maps/*.npy"))) == len(list(folder.glob("out/overlays/*.png"))) == 3
    code = f"""
import sys
from nandlib import add_normality, fit_detector
print(add_normality(fit_detector("aprilgan"), "hair").scores(["0.png"]).shape, "anomalib" in sys.modules)
from nandlib.cli import main
sys.argv = ["nand", "explain", "0.png", *{words}]
main()
"""
    python, *explained = said(empty / "python", "-c", code, cwd=folder, **OFFLINE).stdout.splitlines()
    assert python == "(1,) False" and "A_sup is" in explained[0] and explained[-1] == "explained.png"
    with Image.open(folder / "explained.png") as figure:
        assert min(figure.size) > 150


@pytest.mark.parametrize(
    ("words", "extra"), [(["study", "list"], "study"), (["export", "a.onnx", "-t", "hair"], "onnx"), (["doctor"], "study")], ids=str
)
def test_a_command_that_needs_an_extra_names_it(empty, folder, words, extra):
    (folder / "dvc.yaml").touch()
    done = said(empty / "nand", *words, cwd=folder, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and f'pip install "nandlib[{extra}]"' in done.stderr, done.stderr


def test_a_study_from_python_names_its_extra(empty, folder):
    done = said(empty / "python", "-c", "from nandlib import open_study", cwd=folder, check=False)
    assert done.stderr.splitlines()[-1].startswith("ImportError: nandlib.open_study") and "nandlib[study]" in done.stderr
