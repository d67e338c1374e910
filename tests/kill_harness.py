"""Kill runs at random moments, finish them, and compare every byte with an undisturbed run: `make kills`.

Not a test that pytest collects. SIGKILL goes to the whole process group (for Ray's workers: to one worker process), at moments drawn
by a seed over the time that an undisturbed run takes, several times in a row in one folder; then the run is finished. A worker or node
of Ray dies some moment after workers have begun, and the run itself goes on.
"""

import csv
import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).parents[1]
NAND = str(Path(sys.executable).parent / "nand")
SUMMARY = ROOT / "figures/kills.csv"
COLUMNS = ("what", "killed", "kills", "runs", "same_bytes")
TIMES = "fitting.json"  # says how many seconds fitting took
WAIT = 900  # seconds, at most, of a run that is let finish


def images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("normal", 4), ("test", 40)):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            small = Image.fromarray(rng.integers(60, 200, (6, 6, 3), dtype=np.uint8))
            small.resize((96, 80), Image.Resampling.BICUBIC).save(folder / name / f"{k:03d}.png")


def apply_command(folder: Path, *more: str) -> list[str]:
    words = ["apply", "test", "-t", "hair", "--noun", "cloth", "--detector", "patchcore", "--normals", "normal", "-o", "out", *more]
    return [NAND, *words]


def study_command(folder: Path) -> list[str]:
    return [NAND, "repro", "report@tiny"]


FIT = """
from pathlib import Path
from nandlib.detectors.config import TrainedDetectors
from nandlib.detectors.trained import TRAINED
from nandlib.detectors.training import Run
from nandlib.models import load_model
config = TrainedDetectors().of("{name}").model_copy(update={{"epochs": {epochs}}})
run = Run(Path("state.pt"), False, "cpu")
fitted = TRAINED["{name}"].fit({{"cloth": sorted(Path("test").glob("*.png"))}}, load_model("mini"), config, run)
Path("out").mkdir(exist_ok=True)
fitted.save(Path("out/state.safetensors"))
"""
FETCH = """
from pathlib import Path
from nandlib.data.published import Source
from nandlib.data.sources import fetch
check, counts = {check!r}, {{"cloth": ({normals}, {tests})}}
entry = Source(name="cloth", title="Cloth", licence="CC0-1.0", file="cloth.tar", urls=({url!r},), check=check, megabytes=2,
               path=Path("data/cloth"), install="extract", images=counts)
fetch(entry, Path("."), progress=False)
"""


def fit_command(name: str, epochs: int) -> Callable[[Path], list[str]]:
    return lambda _folder: [sys.executable, "-c", FIT.format(name=name, epochs=epochs)]


@contextmanager
def slow_server(count: int = 400) -> Iterator[list[str]]:
    """A server of one archive with images, which takes two seconds to send it; gives the command that fetches it."""
    rng, buffer = np.random.default_rng(0), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for k in range(count):
            picture = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(picture, "PNG")
            entry = tarfile.TarInfo(f"cloth/{'train' if k % 2 else 'test'}/good/{k:03d}.png")
            entry.size = picture.tell()
            archive.addfile(entry, io.BytesIO(picture.getvalue()))
    content = buffer.getvalue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.send_response(206 if first else 200)
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - first))
            self.end_headers()
            with suppress(OSError):
                for start in range(first, len(content), len(content) // 100):
                    self.wfile.write(content[start : start + len(content) // 100])
                    time.sleep(0.02)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    check, url = {"sha256": hashlib.sha256(content).hexdigest()}, f"http://127.0.0.1:{server.server_port}/cloth.tar"
    yield [sys.executable, "-c", FETCH.format(check=check, url=url, normals=count // 2, tests=count // 2)]
    server.shutdown()


def fetching() -> tuple[str, str, int, int, int]:
    with slow_server() as command:
        return campaign("nand fetch", "group", lambda _folder: None, lambda _folder: command, ("data",), runs=4, kills=4, seed=6)


def tiny_project_in(folder: Path) -> None:
    """The project with the tiny study entered, nothing of it run."""
    sys.path.insert(0, str(ROOT / "tests"))
    import tiny_project

    shutil.copytree(ROOT / "nandlib", folder / "nandlib", ignore=shutil.ignore_patterns("__pycache__"))
    whole, tiny_project.run = tiny_project.run, lambda project, *command: whole(project, *command) if "repro" not in command else done
    done = subprocess.CompletedProcess([], 0, "", "")
    tiny_project.make(folder)
    tiny_project.run = whole


def start(command: Sequence[str], folder: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": str(ROOT if not (folder / "nandlib").is_dir() else folder), "PYTHONWARNINGS": "ignore"}
    environment["PATH"] = f"{Path(NAND).parent}{os.pathsep}{environment['PATH']}"
    with (folder / "log").open("a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)


def finish(command: Sequence[str], folder: Path) -> float:
    began = time.monotonic()
    if start(command, folder).wait(WAIT):
        raise SystemExit(f"{' '.join(command)}\n{(folder / 'log').read_text()[-3000:]}")
    return time.monotonic() - began


def whole_group(process: subprocess.Popen) -> bool:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    process.wait()
    return True


def ray_workers(process: subprocess.Popen) -> list[psutil.Process]:
    """Of Ray, as soon as some are at work; none if the run ends before."""
    while process.poll() is None:
        every = psutil.process_iter(["cmdline"])
        if found := [worker for worker in every if "ray::_do" in " ".join(worker.info["cmdline"] or [])]:
            return found
        time.sleep(0.01)
    return []


def one_worker(process: subprocess.Popen, rng: random.Random) -> bool:
    """Of Ray; the run itself goes on."""
    begun = bool(ray_workers(process))
    time.sleep(rng.uniform(0, 0.5) if begun else 0)
    for worker in ray_workers(process)[:1]:
        worker.kill()
        return True
    return False


def nodes(runs: int, seed: int) -> tuple[str, str, int, int, int]:
    """One node of two dies, taken down with all its processes; another takes its place before the next run."""
    import ray
    from ray.cluster_utils import Cluster

    rng, same, done = random.Random(seed), 0, 0
    soon = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 4}  # not 30 seconds
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": soon})
    standing = [cluster.add_node(num_cpus=1) for _ in range(2)]
    with tempfile.TemporaryDirectory() as base:
        expected: dict[str, str] = {}
        for number in range(runs + 1):
            folder = Path(base) / f"run{number}"
            folder.mkdir()
            images(folder)
            process = start(apply_command(folder, "--engine", "ray", "--address", cluster.address, "--workers", "2"), folder)
            if number:  # the first is let run
                begun = bool(ray_workers(process))
                time.sleep(rng.uniform(0, 1) if begun else 0)
                if process.poll() is None:
                    cluster.remove_node(standing.pop(0), allow_graceful=False)
                    standing.append(cluster.add_node(num_cpus=1))
                    done += 1
            if process.wait(WAIT):
                raise SystemExit((folder / "log").read_text()[-3000:])
            found = contents(folder, ("out",))
            expected = expected or found
            same += bool(number) and found == expected
            print(f"Ray's nodes: run {number} of {runs}, {done} nodes killed", flush=True)
    ray.shutdown()
    cluster.shutdown()
    return "nand apply --engine ray", "node", done, runs, same


def contents(folder: Path, results: Sequence[str]) -> dict[str, str]:
    paths = [path for name in results for path in sorted((folder / name).rglob("*")) if path.is_file() and path.name != TIMES]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def campaign(
    what: str,
    killed: str,
    prepare: Callable[[Path], None],
    command: Callable[[Path], list[str]],
    results: Sequence[str],
    runs: int,
    kills: int,
    seed: int,
    parts: int = 1,
) -> tuple[str, str, int, int, int]:
    """Some runs, each killed some times before it is let finish.

    Every kill comes within a part of the undisturbed run's time: what was finished before is not done again, so later starts are short.
    """
    rng = random.Random(seed)
    same = done = 0
    with tempfile.TemporaryDirectory() as base:
        whole = Path(base) / "whole"
        whole.mkdir()
        prepare(whole)
        seconds = finish(command(whole), whole)
        expected = contents(whole, results)
        assert expected, f"{what}: nothing to compare"
        for number in range(runs):
            folder = Path(base) / f"run{number}"
            folder.mkdir()
            prepare(folder)
            for _ in range(kills):
                process = start(command(folder), folder)
                time.sleep(0 if killed == "worker" else rng.uniform(0, seconds / parts))
                if killed == "worker":
                    done += one_worker(process, rng)
                    process.wait(WAIT)
                else:
                    done += process.poll() is None and whole_group(process)
            finish(command(folder), folder)
            found = contents(folder, results)
            same += found == expected
            different = [name for name in expected | found if expected.get(name) != found.get(name)]
            print(f"{what}: run {number + 1} of {runs}, {done} kills, {len(different)} files differ {different[:5]}", flush=True)
            shutil.rmtree(folder)
    return what, killed, done, runs, same


CAMPAIGNS = {
    "apply": lambda: campaign("nand apply", "group", images, apply_command, ("out",), runs=7, kills=3, seed=1),
    "shards": lambda: campaign(
        "nand apply --store shards", "group", images, lambda f: apply_command(f, "--store", "shards"), ("out",), runs=3, kills=3, seed=2
    ),
    "driver": lambda: campaign(
        "nand apply --engine ray", "group", images, lambda f: apply_command(f, "--engine", "ray"), ("out",), runs=2, kills=2, seed=3
    ),
    "worker": lambda: campaign(
        "nand apply --engine ray", "worker", images, lambda f: apply_command(f, "--engine", "ray"), ("out",), runs=3, kills=1, seed=4
    ),
    "node": lambda: nodes(runs=6, seed=9),
    "study": lambda: campaign(
        "the tiny study", "group", tiny_project_in, study_command, ("data", "figures"), runs=3, kills=10, seed=5, parts=10
    ),
    "fetch": fetching,
    "uniad": lambda: campaign("training UniAD", "group", images, fit_command("uniad", 60), ("out",), runs=2, kills=3, seed=7),
    "pradot": lambda: campaign("training PRADOT", "group", images, fit_command("pradot", 20), ("out",), runs=2, kills=3, seed=8),
}  # fmt: skip


def main(names: Sequence[str]) -> None:
    for name in names or CAMPAIGNS:
        row = CAMPAIGNS[name]()
        before = list(csv.DictReader(SUMMARY.open())) if SUMMARY.is_file() else []
        rows = {(old["what"], old["killed"]): tuple(old[column] for column in COLUMNS) for old in before} | {row[:2]: row}
        with SUMMARY.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows.values()])


if __name__ == "__main__":
    main(sys.argv[1:])
