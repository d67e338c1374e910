"""Shards on a real Ray cluster of several nodes on this machine."""

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
import tiny_project
from PIL import Image
from ray.cluster_utils import Cluster as Nodes
from typer.testing import CliRunner

from nandlib import add_normality
from nandlib.cli import app
from nandlib.errors import DataError, EngineError, NandError
from nandlib.models.mini import MiniModel
from nandlib.streaming import cluster
from nandlib.streaming.apply import apply
from nandlib.streaming.cluster import Cluster
from nandlib.streaming.here import Here
from nandlib.streaming.listing import Listing
from nandlib.streaming.passes import Part, parts, run_passes
from nandlib.streaming.work import How
from nandlib.study.open_study import OpenStudy, open_study

FEW_SHOT = ("winclip", "patchcore")  # families that share the embedded tower's pass
HOW = How(store="shards", overlays=False, batch=2)
QUIET = {"include_log_monitor": False}  # a process a node that sends what workers print: nobody asks for it here


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A head without processors of its own, and a node of one; connected once, so that tests find each other's workers. (A command that
    connects for itself is `test_a_study_passes_through_networks_on_a_cluster`.)"""
    soon = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 4}  # not 30 seconds
    head = {"num_cpus": 0, "include_dashboard": False, "no_monitor": True, "_system_config": soon}
    cluster = Nodes(initialize_head=True, head_node_args=head | QUIET)
    cluster.add_node(num_cpus=1, **QUIET)
    ray.init(cluster.address, log_to_driver=False, configure_logging=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for k in range(20):
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(tmp_path / f"images/{k:03d}.png")
    return tmp_path / "images"


@pytest.fixture(scope="module")
def model(heads_file: Path) -> MiniModel:
    """Without what the other tests share, which is tied to their process."""
    return MiniModel.load(heads_file)


def detector(model, seconds: float = 0.0, stop: str = ""):
    """Pickled by value: the nodes do not know this file."""

    def brightness(pictures):
        time.sleep(seconds)
        if stop:
            raise DataError(stop)
        return np.stack([1 - np.asarray(picture.convert("L"), np.float32) / 255 for picture in pictures])

    return add_normality(brightness, "hair", model=model, noun="cloth")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(adapted, images: Path, out: Path, engine) -> None:
    apply(lambda: adapted, Listing.of([images]), out, {"of": "a test"}, HOW, engine=engine)


def test_a_cluster_that_is_not_there_is_named(images, model, tmp_path):
    """First: later tests are connected already."""
    with pytest.raises(EngineError, match="Ray cluster 127.0.0.1:1 failed"):
        run(detector(model), images, tmp_path / "out", Cluster("127.0.0.1:1"))


def test_a_node_that_is_killed_costs_nothing_but_time(nodes, images, model, tmp_path, monkeypatch):
    """The same bytes as here, though one node of two dies in the middle, and workers stand in another folder than the run."""
    monkeypatch.chdir(tmp_path)
    adapted = detector(model, seconds=0.3)
    run(detector(model), images, tmp_path / "here", Here(1))
    victim, finished = nodes.add_node(num_cpus=1, **QUIET), threading.Event()

    def kill() -> None:
        while not list((tmp_path / "far/shards").glob("*.parquet")):
            time.sleep(0.05)
        nodes.remove_node(victim, allow_graceful=False)
        finished.set()

    threading.Thread(target=kill, daemon=True).start()
    run(adapted, images, Path("far"), Cluster(nodes.address, workers=2))
    assert finished.is_set()
    assert contents(tmp_path / "far") == contents(tmp_path / "here")


def test_what_a_worker_says_is_said_here(nodes, images, model, tmp_path):
    with pytest.raises(DataError, match="the lamp is off"):
        run(detector(model, stop="the lamp is off"), images, tmp_path / "out", Cluster(nodes.address, workers=1))


def _without_passes(project: Path, folder: Path) -> OpenStudy:
    """A copy of the tiny study, its manifest made, before any image has passed through a network."""
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns("figures", "notebooks", "pcb*", "tmp"))
    study = open_study("tiny", folder)
    for stage in ("similarities", "maps"):
        shutil.rmtree(study.data / stage)
    return study


def test_a_study_passes_through_networks_on_a_cluster(nodes, project, tmp_path, monkeypatch):
    """By the command: the stages' own files, byte by byte, so that the stages find nothing to do."""
    study = _without_passes(project, tmp_path / "project")
    for stale in ("similarities/wood/test_000000.safetensors", "maps/patchcore/wood/test_000000.safetensors"):  # of a class that has gone
        (study.data / stale).parent.mkdir(parents=True)
        (study.data / stale).touch()
    monkeypatch.setattr(tiny_project, "WARM", {})  # a process of its own, as users have it
    words = ["nand", "study", "run", "tiny", "--target", "maps", "--engine", "ray", "--address", nodes.address]
    done = tiny_project.run(study.root, *words)
    assert "didn't change, skipping" in done.stdout and "Running stage" not in done.stdout
    own = {stage: contents(study.data / stage) for stage in ("similarities", "maps")}
    assert own == {stage: contents(project / "data/tiny" / stage) for stage in own} and len(own["maps"]) > len(study.classes())
    before = {path: path.stat().st_mtime_ns for path in study.data.rglob("*.safetensors")}
    run_passes(study, Here(1))
    assert before == {path: path.stat().st_mtime_ns for path in study.data.rglob("*.safetensors")}, "what is there was made again"


def test_a_detector_of_all_classes_is_one_part_and_comes_first(project, tmp_path):
    study = _without_passes(project, tmp_path / "project")
    classes = study.classes()
    assert [part.families for part in parts(study)] == [family for family in (("similarities",), FEW_SHOT) for _ in classes]
    assert [part.classes for part in parts(study)] == 2 * [(name,) for name in classes]
    preset = tmp_path / "project/studies/tiny.yaml"
    preset.write_text(re.sub(r"^detectors: .*$", "detectors: [winclip_0, patchcore, pbas, uniad]", preset.read_text(), flags=re.MULTILINE))
    todo = parts(open_study("tiny", tmp_path / "project"))
    assert todo[0] == Part(("uniad",), tuple(classes))
    assert [part.families for part in todo[1:]] == [family for family in (("similarities",), FEW_SHOT, ("pbas",)) for _ in classes]


def test_a_training_leaves_its_state_alone(project, tmp_path):
    """And nothing to go on from, which the stage would not find there."""
    study = _without_passes(project, tmp_path / "project")
    preset = tmp_path / "project/studies/tiny.yaml"
    text = re.sub(r"^detectors: .*$", "detectors: [pradot]", preset.read_text(), flags=re.MULTILINE)
    preset.write_text(text.replace("trained: {}", "trained: {pradot: {epochs: 1}}"))
    run_passes(open_study("tiny", tmp_path / "project"), Here(1))
    assert {path.name for path in study.states.iterdir()} == {f"pradot_{name}.safetensors" for name in study.classes()}


def test_an_address_needs_its_engine(project, monkeypatch):
    monkeypatch.chdir(project)
    with pytest.raises(NandError, match="--engine ray"):
        CliRunner().invoke(app, ["study", "run", "tiny", "--address", "host:1"], catch_exceptions=False)


def test_what_kills_every_worker_is_given_up(nodes, tmp_path, monkeypatch):
    log = str(tmp_path / "log")

    def deadly(part):  # a part that ends whoever does it
        with open(log, "a") as file:
            file.write("x")
        os._exit(139)

    monkeypatch.setattr(cluster, "RETRIES", 2)
    with pytest.raises(EngineError, match="failed"):
        list(Cluster(nodes.address, workers=1)(deadly, iter([1])))
    assert (tmp_path / "log").read_text() == "xxx"
