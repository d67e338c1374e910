"""Many images: shards that are written once, a run that goes on where it was, workers here and on a Ray cluster."""

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import fsspec
import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from nandlib import add_normality
from nandlib.benchmarks import rates
from nandlib.data.ahead import ahead
from nandlib.data.batch import Batch, in_batches, inputs
from nandlib.data.held import held
from nandlib.detectors.base import TorchDetector
from nandlib.errors import DataError, EngineError
from nandlib.streaming.apply import apply, shard_size
from nandlib.streaming.here import Here
from nandlib.streaming.listing import Listing
from nandlib.streaming.results import Shard
from nandlib.streaming.work import How

HOW = How(store="shards", overlays=False, batch=2)
HOW_SKIPPING = How(store="shards", overlays=False, batch=2, skip_unreadable=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for k in range(70):
        path = tmp_path / f"images/{'ab'[k % 2]}/{k:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"


def brightness(pictures) -> np.ndarray:
    """A detector that needs no network: the darker, the more anomalous."""
    return np.stack([1 - np.asarray(picture.convert("L"), np.float32) / 255 for picture in pictures])


@pytest.fixture(scope="session")
def adapted(model):
    """Nothing is added: the work is reading, writing and keeping books."""
    return add_normality(brightness, "hair", model=model).remove("hair")


@dataclass
class Counting:
    """An engine that does shards here, and notes them; optionally it fails at one."""

    threads: int = 1
    fail_at: int | None = None
    backwards: bool = False
    done: list[Shard] = field(default_factory=list)

    def __call__(self, work, shards):
        for k, shard in enumerate(sorted(shards, key=lambda shard: shard.images, reverse=True) if self.backwards else shards):
            if k == self.fail_at:
                raise KeyboardInterrupt
            self.done.append(shard)
            yield work(shard)


def run(adapted, images: Path, out: Path, engine=None, how: How = HOW, setting=None):
    return apply(lambda: adapted, Listing.of([images]), out, setting or {"of": "a test"}, how, engine=engine or Counting())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_second_run_does_nothing_and_a_third_what_changed(images, adapted, tmp_path):
    out, first = tmp_path / "out", Counting()
    table = run(adapted, images, out, first)
    assert [len(shard.images) for shard in first.done] == [4] * 17 + [2] and len(table) == 70
    before = contents(out)
    with pytest.raises(ZeroDivisionError):  # it is not even made
        apply(lambda: 1 / 0, Listing.of([images / "a"]), tmp_path / "other", {}, HOW)
    apply(lambda: 1 / 0, Listing.of([images]), out, {"of": "a test"}, HOW, engine=Counting())
    assert contents(out) == before
    Image.new("RGB", (24, 24), "black").save(images / "a/000.png")
    Image.new("RGB", (24, 24), "white").save(images / "b/new.png")
    (images / "b/001.png").unlink()
    third = Counting()
    rows = {row["image"]: row for row in run(adapted, images, out, third).to_pylist()}
    assert [(shard.images, shard.generation) for shard in third.done] == [(("a/000.png",), 1), (("b/new.png",), 0)]
    assert rows["a/000.png"]["score_before"] == 1 and rows["b/new.png"]["score_before"] == 0 and "b/001.png" not in rows
    after = contents(out)
    assert {name: after[name] for name in before if name.startswith("shards/")} == {
        k: v for k, v in before.items() if k.startswith("shards/")
    }
    written = list(csv.DictReader((out / "scores.csv").open()))
    assert [row["image"] for row in written] == sorted(rows) and len(written) == 70
    shutil.copy(images / "a/002.png", images / "a/000.png")  # changed again, and back
    fourth = Counting()
    run(adapted, images, out, fourth)
    assert [shard.generation for shard in fourth.done] == [2]


def test_what_was_stopped_ends_in_the_same_bytes(images, adapted, tmp_path):
    run(adapted, images, tmp_path / "whole")
    for name, engine in (("early", Counting(fail_at=3)), ("backwards", Counting(fail_at=5, backwards=True))):
        out = tmp_path / name
        with pytest.raises(KeyboardInterrupt):
            run(adapted, images, out, engine)
        (out / "shards/.x.parquet.1.partial").write_bytes(b"half")
        rest = Counting()
        run(adapted, images, out, rest)
        assert len(rest.done) == 18 - len(engine.done)
        assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("how", [HOW, How(batch=2)], ids=["shards", "files"])
def test_workers_write_the_same_bytes(images, adapted, tmp_path, how):
    run(adapted, images, tmp_path / "one", Counting(), how)
    run(adapted, images, tmp_path / "two", Here(2), how)
    found = contents(tmp_path / "one")
    assert found == contents(tmp_path / "two")
    base = brightness([Image.open(images / "a/000.png")])[0]
    if how.store == "shards":
        maps = {}
        for path in (tmp_path / "one/shards").glob("*.safetensors"):
            maps |= load_file(path)
        assert len(maps) == 70 and np.array_equal(maps["a/000.png"], base)
    else:
        assert np.array_equal(np.load(tmp_path / "one/maps/a/000.npy"), base)
        assert sum(name.startswith("overlays/") for name in found) == 70


def test_results_of_another_setting_are_not_mixed(images, adapted, tmp_path):
    run(adapted, images, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(DataError, match=r"another setting \(texts: None there, 'dust' now\): give another folder"):
        run(adapted, images, tmp_path / "out", setting={"of": "a test", "texts": "dust"})
    with pytest.raises(DataError, match="another setting \\(batch: 2 there, 4 now\\)"):
        run(adapted, images, tmp_path / "out", how=How(store="shards", overlays=False, batch=4))
    assert contents(tmp_path / "out") == before


def test_what_cannot_be_read_stops_the_run_or_is_listed(images, adapted, tmp_path):
    (images / "a/000.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"000.png cannot be read as an image .*--skip-unreadable"):
        run(adapted, images, tmp_path / "out")
    table = run(adapted, images, tmp_path / "listed", how=How("shards", False, 2, skip_unreadable=True))
    assert table.column("problem").null_count == 69
    (row,) = csv.DictReader((tmp_path / "listed/unreadable.csv").open())
    assert row["image"] == "a/000.png" and "cannot be read" in row["problem"]
    assert len(list(csv.DictReader((tmp_path / "listed/scores.csv").open()))) == 69
    shutil.copy(images / "a/002.png", images / "a/000.png")
    assert run(adapted, images, tmp_path / "listed", how=How("shards", False, 2, skip_unreadable=True)).column("problem").null_count == 70
    assert not (tmp_path / "listed/unreadable.csv").exists()


def test_a_damaged_shard_is_named(images, adapted, tmp_path):
    run(adapted, images, tmp_path / "out")
    before, path = contents(tmp_path / "out"), next((tmp_path / "out/shards").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=f"{path.name} is damaged .* remove it"):
        run(adapted, images, tmp_path / "out")
    path.unlink()
    again = Counting()
    run(adapted, images, tmp_path / "out", again)
    assert len(again.done) == 1 and contents(tmp_path / "out") == before


def test_images_at_an_address(images, adapted, tmp_path):
    files = fsspec.filesystem("memory")
    files.put(str(images), "/bucket/images", recursive=True)
    try:
        listing = Listing.of(["memory://bucket/images"])
        assert list(listing) == list(Listing.of([images]))
        apply(lambda: adapted, listing, tmp_path / "far", {"of": "a test"}, HOW, engine=Counting())
    finally:
        files.rm("/bucket", recursive=True)
    run(adapted, images, tmp_path / "near")
    assert contents(tmp_path / "far") == contents(tmp_path / "near")
    with pytest.raises(DataError, match="no image in memory://nothing|memory://nothing cannot be listed"):
        Listing.of(["memory://nothing"])
    with pytest.raises(DataError, match="give one address"):
        Listing.of(["memory://bucket", str(images)])


def test_networks_that_preprocess_alike_share_a_tensor():
    pictures, calls = [Image.new("RGB", (8, 8), (k, k, k)) for k in range(3)], []

    def preprocess(picture):
        calls.append(picture)
        return torch.zeros(3, 4, 4) + picture.getpixel((0, 0))[0]

    batch = Batch(pictures)
    (one,), (other,) = inputs(batch, preprocess, 8), inputs(batch, preprocess, 8)
    assert one is other and len(calls) == 3
    parts = list(inputs(pictures, preprocess, 2))
    assert [len(part) for part in parts] == [2, 1] and torch.equal(torch.cat(parts), one)
    assert [len(part) for part in inputs(batch, preprocess, 2)] == [3], "as few as go through a network at once"
    several = list(in_batches([np.asarray(picture) for picture in pictures], preprocess, 2))
    known = len(calls)
    assert [len(own) for own in several] == [2, 1] and torch.equal(torch.cat([own.inputs(preprocess) for own in several]), one)
    assert len(calls) == known, "preprocessed by those who read"
    assert [picture.getpixel((0, 0))[0] for own in several for picture in own] == [0, 1, 2]


def test_readers_preprocess_while_the_network_works(images, model, tmp_path):
    """The network's thread is handed tensors, as many at once as was asked for; the bytes are those of one image after the other."""
    seen, sizes = set(), []

    def preprocess(picture):
        seen.add(threading.get_ident())
        return torch.from_numpy(np.asarray(picture, np.float32).transpose(2, 0, 1).copy())

    class Mean(TorchDetector):
        def maps(self, batch):
            sizes.append(len(batch))
            return batch.mean(1)

    detector = Mean(preprocess)
    nothing = add_normality(detector, "hair", model=model).remove("hair")
    run(nothing, images, tmp_path / "out", how=How(store="shards", overlays=False, batch=12))
    assert max(sizes) == 12 and seen and threading.get_ident() not in seen
    stored = {name: array for path in (tmp_path / "out/shards").glob("*.safetensors") for name, array in load_file(path).items()}
    one_by_one = {name: detector.maps(preprocess(Image.open(images / name))[None])[0].numpy() for name in stored}
    assert len(stored) == 70 and all(np.array_equal(stored[name], one_by_one[name]) for name in stored)


def test_threads_are_at_most_so_many_ahead():
    begun, gate = [], threading.Event()

    def read(number):
        begun.append(number)
        gate.wait(10)
        return number

    reading = ahead(read, iter(range(100)), 3)
    gate.set()
    assert [next(reading) for _ in range(5)] == [0, 1, 2, 3, 4] and len(begun) <= 5 + 3 + 1
    reading.close()
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda number: 1 // number, [1, 0, 2], 2))


def test_what_is_skipped_is_skipped_again(images, adapted, tmp_path):
    (images / "gone.png").symlink_to(tmp_path / "nowhere.png")
    for engine in (first := Counting(), second := Counting()):
        found = run(adapted, images, tmp_path / "out", engine, HOW_SKIPPING)
        assert len(found) == 71 and "gone.png" in (tmp_path / "out/unreadable.csv").read_text()
    assert first.done and not second.done


def test_shards_are_whole_batches():
    assert [shard_size(count, 8) for count in (1, 100, 1000, 10_000, 10**6)] == [8, 8, 56, 256, 256]
    assert shard_size(10**6, 300) == 300


def test_one_process_at_a_time(tmp_path):
    code = "import sys, time\nfrom pathlib import Path\nfrom nandlib.data.held import held\n" \
           "with held(Path(sys.argv[1])):\n print('held', flush=True)\n time.sleep(60)"  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=f"process {other.pid} is at work there"), held(tmp_path):
            pass
        other.kill()
    with held(tmp_path):  # what was killed holds nothing
        assert (tmp_path / ".owner").read_text() == str(os.getpid())


@pytest.mark.skipif(sys.platform != "linux", reason="processes end with their parent on Linux alone")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("late", [0, 1], ids=["working", "starting"])
def test_workers_end_with_the_run(how, late):
    """Also those that had not begun when it was killed."""
    code = f"""import time
from nandlib.streaming import here
asked = here.end_with_parent
here.end_with_parent = lambda: (time.sleep({late}), asked())
list(here.Here(2)(lambda shard: time.sleep(60), iter('abc')))"""
    with subprocess.Popen([sys.executable, "-c", code]) as started:
        run, until = psutil.Process(started.pid), time.monotonic() + 60
        while len(workers := run.children()) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        assert len(workers) == 2
        os.kill(started.pid, how)
    _, left = psutil.wait_procs(workers, 10)
    assert not left


def test_a_worker_that_is_killed_ends_the_run_with_a_message(images, adapted, tmp_path):
    def deadly(pictures):
        os.kill(os.getpid(), signal.SIGKILL)

    broken = add_normality(brightness, "hair", model=adapted.model).remove("hair")
    object.__setattr__(broken, "detector", deadly)
    with pytest.raises(EngineError, match="killed .* run the same command again"):
        run(broken, images, tmp_path / "out", Here(2))
    run(adapted, images, tmp_path / "out", Here(2))
    run(adapted, images, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_several_workers_have_one_thread_each(images, adapted, tmp_path):
    """A process that is forked after its parent has used several threads would wait for ever at its first sum."""
    with pytest.raises(EngineError, match="2 workers of 2 threads: only workers of one thread"):
        Here(2, 2)
    run(adapted, images, tmp_path / "out", Here(1, 2))
    assert json.loads((tmp_path / "out/setting.json").read_text())["threads"] == 2
    with pytest.raises(DataError, match=r"another setting \(threads: 2 there, 1 now\)"):
        run(adapted, images, tmp_path / "out", Here(2))


def test_a_full_disk_and_a_folder_that_cannot_be_written_to_are_named(images, adapted, tmp_path):
    """What is finished stays; once there is room, the same command ends as ever."""
    full = Counting()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    run(adapted, images, tmp_path / "whole")
    largest = max(path.stat().st_size for path in (tmp_path / "whole/shards").iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, limit[1]))
    try:
        with pytest.raises(DataError, match=r"cannot be written \(.*\): make room .* what is finished is kept"):
            run(adapted, images, tmp_path / "out", full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list((tmp_path / "out").rglob(".*.partial"))
    run(adapted, images, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    (tmp_path / "file").write_text("no folder")
    for place, mend in ((tmp_path / "file", "a file has the name"), (Path("/proc/results"), "give the right to write there")):
        with pytest.raises(DataError, match=f"{place} cannot be written to .*{mend}"):
            run(adapted, images, place)


def test_results_that_are_removed_under_a_run_are_missed(images, adapted, tmp_path):
    class Removing(Counting):
        def __call__(self, work, shards):
            yield from super().__call__(work, shards)
            next((tmp_path / "out/shards").glob("*.parquet")).unlink()

    with pytest.raises(DataError, match="results of [24] images went missing meanwhile: run the same command again"):
        run(adapted, images, tmp_path / "out", Removing())
    assert len(run(adapted, images, tmp_path / "out")) == 70


def test_a_clock_that_jumps_back_changes_nothing(images, adapted, tmp_path):
    """Whether an image has changed is told by what it holds, not by when it was written."""
    run(adapted, images, tmp_path / "out")
    before = contents(tmp_path / "out")
    for path in (*images.rglob("*.png"), *(tmp_path / "out/shards").iterdir()):
        os.utime(path, (10**9, 10**9))
    again = Counting()
    run(adapted, images, tmp_path / "out", again)
    assert not again.done and contents(tmp_path / "out") == before
    Image.new("RGB", (24, 24), "white").save(images / "a/000.png")
    os.utime(images / "a/000.png", (10**9, 10**9))
    run(adapted, images, tmp_path / "out", again)
    assert [shard.images for shard in again.done] == [("a/000.png",)]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_rate_counts_what_is_done_once_all_have_begun(monkeypatch, workers):
    """Workers that take a fifth of a second for a shard of eight images do forty a second each, and no more."""
    clock = SimpleNamespace(now=100.0)

    def engine(work, shards):
        for k, _ in enumerate(shards):
            clock.now += 0.2 if k % workers == 0 else 0
            yield 8

    engine.threads = 1
    monkeypatch.setattr(rates, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    monkeypatch.setattr(rates, "apply", lambda *_, engine: list(engine(None, iter(range(12)))))
    assert rates.streamed(None, None, engine, HOW, workers)() == pytest.approx(40 * workers)
