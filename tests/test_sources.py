"""Weights and data: local first, verified always, resumed, unpacked safely; against a real HTTP server."""

import hashlib
import json
import re
import shutil
import tarfile
import threading
import zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import nandlib.data.sources
from nandlib.cli import app
from nandlib.data.archives import extract
from nandlib.data.images import load_mask
from nandlib.data.published import Source, source, source_of, sources, verify
from nandlib.data.sources import download, fetch, state
from nandlib.detectors.config import TRAINED_NAMES
from nandlib.errors import DataError, PresetError
from nandlib.settings import RANDOM
from nandlib.study.doctor import describe, examine
from nandlib.study.preset import load_study

ROOT = Path(__file__).parents[1]
CONTENT = bytes(range(256)) * 5000
entry = partial(Source, name="thing", title="A thing", licence="CC BY-NC-SA 4.0", urls=(), megabytes=1, path=Path("data/thing"))


@pytest.fixture
def server():
    """Serves `files` by name, with or without ranges; breaks off after `limit` bytes if there is one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = httpd.files.get(self.path.strip("/"))
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            httpd.seen.append((self.path.strip("/"), self.headers.get("Range")))
            if content is None:
                self.send_error(404)
                return
            start = int(wanted[1]) if wanted and httpd.ranges else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:][: httpd.limit])

        def log_message(self, *_):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.files, httpd.seen, httpd.ranges, httpd.limit = {"thing.bin": CONTENT}, [], True, None
    httpd.url = f"http://127.0.0.1:{httpd.server_port}"
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield httpd
    httpd.shutdown()


def sha(content: bytes) -> dict[str, str]:
    return {"sha256": hashlib.sha256(content).hexdigest()}


def test_the_manifest_is_complete_and_serves_the_papers_study():
    for one in sources().values():
        assert one.urls
        assert all(url.startswith("https://") for url in one.urls)
        assert bool(((one.check and one.file) or one.parts) and one.megabytes) != (one.install == "by_hand")
        assert all(len(published) in (8, 32, 40, 64) for published in (*one.check.values(), *one.parts.values()))
        assert one.path.parts[0] == "data"
    for name in ("mvtec_ad", "mvtec_ad_detectors"):
        study = load_study(ROOT / f"studies/{name}.yaml")
        for path in (study.data.root, *study.weight_files().values()):
            assert source_of(path) is not None, path
    assert sum(a for a, _ in source("mvtec_ad").images.values()) == 3629
    assert sum(b for _, b in source("mvtec_ad").images.values()) == 1725
    assert [sum(own) for own in zip(*source("mvtec_3d").images.values(), strict=True)] == [2656, 1197]
    assert [sum(own) for own in zip(*source("mpdd").images.values(), strict=True)] == [888, 458]  # as its paper says
    with pytest.raises(PresetError, match=r"no source 'mvtec': did you mean 'mvtec_ad'\?"):
        source("mvtec")


def test_what_is_brought_by_hand_is_never_called_verified(tmp_path):
    with pytest.raises(
        DataError, match=r"Real-IAD.*: get it from its authors, https://real.* at data/sets/real_iad: no hash .* unverified"
    ):
        fetch(source("real_iad"), tmp_path)
    (tmp_path / "data/sets/real_iad").mkdir(parents=True)
    assert state(source("real_iad"), tmp_path) == "unverified"
    assert fetch(source("real_iad"), tmp_path) == "data/sets/real_iad is there, unverified"
    with pytest.raises(DataError, match=r"MPDD.* at data/sets/mpdd: no hash of it is known, so nothing is downloaded$"):
        fetch(source("mpdd"), tmp_path)
    (tmp_path / "data/sets/mpdd").mkdir()
    assert state(source("mpdd"), tmp_path) == "changed"  # its numbers of images are published


def test_a_folder_without_published_numbers_is_what_was_unpacked_or_unknown(data_set, tmp_path):
    archive, thing = data_set[1], data_set[2].model_copy(update={"images": None})
    (tmp_path / "empty/data/thing").mkdir(parents=True)
    assert state(thing, tmp_path / "empty") == "unverified"
    fetch(thing, tmp_path, local=[archive], progress=False)
    assert state(thing, tmp_path) == "verified"
    next((tmp_path / "data/thing").rglob("*.png")).unlink()
    assert state(thing, tmp_path) == "changed"


def test_a_data_set_in_several_archives(tmp_path, server):
    """Each with a folder of its name inside, or without; asked once; what would leave its folder, or is none of them, is refused."""
    for name, inside in (("a", "a/"), ("b", "")):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as packed:
            packed.writestr(f"{inside}train/good/0.png", name)
        server.files[f"{name}.zip"] = (tmp_path / f"{name}.zip").read_bytes()
    parts, asked = {f"{name}.zip": sha(server.files[f"{name}.zip"])["sha256"] for name in "ab"}, []
    thing = entry(urls=(f"{server.url}/",), parts=parts, install="extract", accept=True, megabytes=2)
    with pytest.raises(DataError, match="its licence, .*, was not accepted"):
        fetch(thing, tmp_path / "p", progress=False)
    fetch(thing, tmp_path / "p", accept=lambda one: asked.append(one) or True, progress=False)
    assert [one.name for one in asked] == ["thing"] and state(thing, tmp_path / "p") == "verified"
    assert {name: (tmp_path / f"p/data/thing/{name}/train/good/0.png").read_text() for name in "ab"} == {"a": "a", "b": "b"}
    (tmp_path / "p/data/thing/a/.DS_Store").touch()
    assert state(thing, tmp_path / "p") == "verified"
    fetch(thing, tmp_path / "one", local=[tmp_path / "a.zip"], progress=False)
    assert [path.name for path in (tmp_path / "one/data/thing").iterdir()] == ["a"] and state(thing, tmp_path / "one") == "missing"
    (tmp_path / "x.zip").write_bytes(b"x")
    with pytest.raises(DataError, match=r"x\.zip: none of a\.zip, b\.zip as published"):
        fetch(thing, tmp_path / "two", local=[tmp_path / "x.zip"], progress=False)
    (tmp_path / "gone/data").mkdir(parents=True)
    (tmp_path / "gone/data/thing").symlink_to(tmp_path / "nowhere")
    fetch(thing, tmp_path / "gone", local=[tmp_path], progress=False)
    shutil.rmtree(tmp_path / "p/data/thing/b")
    assert state(thing, tmp_path / "p") == "missing"
    fetch(thing, tmp_path / "p", local=[tmp_path], progress=False)  # the part that is missing
    assert state(thing, tmp_path / "p") == "verified"
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as packed:
        packed.writestr("../out.png", "x")
    with pytest.raises(DataError, match="would leave the folder"):
        extract(tmp_path / "out.zip", tmp_path / "x/y")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a", bytes(10**7))
    with pytest.raises(DataError, match="100 times as large"):
        extract(tmp_path / "bomb.zip", tmp_path / "z")
    assert not (tmp_path / "x/out.png").exists() and not (tmp_path / "z").exists()


def test_the_dry_run_differs_from_the_papers_study_where_it_says():
    paper, dry = (load_study(ROOT / f"studies/{name}.yaml").model_dump() for name in ("mvtec_ad", "mvtec_ad_random"))
    for section, key in (("data", "root"), ("data", "drawn"), ("winclip", "weights"), ("patchcore", "backbone_weights")):
        assert paper[section].pop(key) != dry[section].pop(key)
    for study in (paper, dry):
        assert [study["model"].pop(key) for key in ("weights", "clip_weights")]
        for key in ("name", "title", "figures"):
            del study[key]
    assert paper == dry


def test_and_so_does_that_of_the_trained_detectors():
    paper, dry = (load_study(ROOT / f"studies/{name}.yaml") for name in ("mvtec_ad_detectors", "mvtec_ad_detectors_random"))
    assert set(dry.weight_files().values()) == {RANDOM} and len(paper.weight_files()) == len(dry.weight_files()) == 9
    own = [study.trained.model_dump() for study in (paper, dry)]
    for name in (name for name in TRAINED_NAMES if name in paper.detectors):
        assert {key for key in own[0][name] if own[0][name][key] != own[1][name][key]} == {*paper.trained.of(name).weight_fields, "epochs"}
        assert own[0][name]["size"] == "full"
    assert paper.data.model_copy(update={"root": dry.data.root, "drawn": dry.data.drawn}) == dry.data and paper.nand == dry.nand
    assert set(dry.data.exclude_classes) <= set(dry.data.drawn.classes), "what is left out must be there"


@pytest.mark.parametrize("kind", ["sha256", "sha256_prefix", "git_blob", "md5"])
def test_verification(tmp_path, kind):
    path = tmp_path / "f"
    path.write_bytes(CONTENT)
    good = {
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "sha256_prefix": hashlib.sha256(CONTENT).hexdigest()[:8],
        "git_blob": hashlib.sha1(b"blob 1280000\0" + CONTENT).hexdigest(),
        "md5": hashlib.md5(CONTENT).hexdigest(),
    }[kind]
    verify(path, entry(file="f", check={kind: good}, install="convert"))
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(DataError, match=f"{kind} is .* published is {good}"):
        verify(path, entry(file="f", check={kind: good}, install="convert"))


def test_download_goes_on_where_it_stopped(server, tmp_path):
    thing = entry(file="thing.bin", urls=(f"{server.url}/thing.bin",), check=sha(CONTENT), install="convert")
    server.limit = 700_000
    with pytest.raises(DataError, match="thing.bin could not be downloaded:\n.*\n.*nand fetch thing --from PATH"):
        download(thing, tmp_path, progress=False)
    have = (tmp_path / "thing.bin.part").stat().st_size
    assert 700_000 - nandlib.data.download.BLOCK <= have <= 700_000
    server.limit = None
    path, url = download(thing, tmp_path, progress=False)
    assert path.read_bytes() == CONTENT
    assert url == thing.urls[0]
    assert server.seen[-1] == ("thing.bin", f"bytes={have}-")
    assert [p.name for p in tmp_path.iterdir()] == ["thing.bin"]


def test_a_server_without_ranges_starts_again(server, tmp_path):
    thing = entry(file="thing.bin", urls=(f"{server.url}/thing.bin",), check=sha(CONTENT), install="convert")
    (tmp_path / "thing.bin.part").write_bytes(b"x" * 1000)
    server.ranges = False
    assert download(thing, tmp_path, progress=False)[0].read_bytes() == CONTENT


def test_mirrors_are_tried_in_turn_and_a_wrong_file_is_thrown_away(server, tmp_path, monkeypatch):
    server.files["wrong/thing.bin"] = b"something else"
    urls = (f"{server.url}/none.bin", f"{server.url}/wrong/thing.bin", f"{server.url}/thing.bin")
    thing = entry(file="thing.bin", urls=urls, check=sha(CONTENT), install="convert")
    assert download(thing, tmp_path, progress=False)[1] == urls[2]
    (tmp_path / "thing.bin").unlink()
    with pytest.raises(DataError, match="404.*\n.*wrong/thing.bin"):
        download(thing.model_copy(update={"urls": urls[:2]}), tmp_path, progress=False)
    assert not list(tmp_path.glob("thing.bin*"))
    monkeypatch.setenv("NAND_MIRROR", server.url)
    assert download(thing.model_copy(update={"urls": urls[:1]}), tmp_path, progress=False)[1] == f"{server.url}/thing.bin"


@pytest.fixture
def data_set(tmp_path):
    """A folder of one class with 2 training and 3 test images, its archive, and its source."""
    folder = tmp_path / "have" / "thing"
    for name, n in (("train/good", 2), ("test/good", 1), ("test/dent", 2)):
        (folder / "bolt" / name).mkdir(parents=True)
        for k in range(n):
            Image.new("L", (8, 8), k).save(folder / "bolt" / name / f"{k}.png")
    archive = tmp_path / "thing.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(folder / "bolt", "bolt")
    thing = entry(file="thing.tar.xz", check=sha(archive.read_bytes()), install="extract", accept=True, images={"bolt": (2, 3)})
    return folder, archive, thing


def test_a_folder_or_archive_on_this_machine_needs_no_network(data_set, tmp_path, monkeypatch):
    folder, archive, thing = data_set
    monkeypatch.setattr(nandlib.data.sources, "download", None)
    for k, place in enumerate((folder, folder.parent, archive, archive.parent)):
        root = tmp_path / f"project{k}"
        assert str(place)[: len(str(tmp_path))] in fetch(thing, root, local=[place], progress=False)
        assert (root / "data/thing").is_symlink() == (k < 2)
        assert len(list((root / "data/thing").rglob("*.png"))) == 5
        record = json.loads((root / "data/sources.json").read_text())["thing"]
        assert record["licence"] == "CC BY-NC-SA 4.0"
        assert fetch(thing, root, progress=False) == "data/thing is there, verified"
    assert archive.is_file()
    monkeypatch.setenv("NAND_LOCAL", f"/nowhere:{folder.parent}")
    assert "→" in fetch(thing, tmp_path / "project9", progress=False)


def test_an_incomplete_folder_or_damaged_archive_is_refused(data_set, tmp_path):
    folder, archive, thing = data_set
    (folder / "bolt/test/dent/0.png").unlink()
    with pytest.raises(DataError, match="class 'bolt' has 2 training and 2 test images, published are 2 and 3"):
        fetch(thing, tmp_path / "p", local=[folder], progress=False)
    archive.write_bytes(archive.read_bytes()[:-7])
    with pytest.raises(DataError, match="is not thing.tar.xz: sha256 is"):
        fetch(thing, tmp_path / "p", local=[archive], progress=False)
    assert not (tmp_path / "p/data/thing").exists()


def test_a_renamed_checkpoint_is_known_by_its_hash_and_watched(tmp_path):
    torch.save({"trainable_linearlayer": torch.nn.Linear(2, 3).state_dict()}, tmp_path / "mine.pth")
    thing = entry(file="thing.pth", check=sha((tmp_path / "mine.pth").read_bytes()), install="convert", path=Path("data/t.safetensors"))
    root = tmp_path / "project"
    assert state(thing, root) == "missing"
    fetch(thing, root, local=[tmp_path / "mine.pth"], progress=False)
    assert state(thing, root) == "verified"
    assert fetch(thing, root, progress=False) == "data/t.safetensors is there, verified"
    (root / thing.path).write_bytes(b"other")
    assert state(thing, root) == "changed"
    with pytest.raises(DataError, match="is not what was fetched"):
        fetch(thing, root, progress=False)
    (root / "data/sources.json").unlink()
    assert state(thing, root) == "unverified"
    (root / thing.path).unlink()
    torch.save({}, tmp_path / "other.pth")
    with pytest.raises(DataError, match="other.pth: not thing.pth, or not as published: nothing was fetched"):
        fetch(thing, root, local=[tmp_path / "other.pth"], progress=False)
    (root / thing.path).symlink_to(tmp_path / "gone")
    fetch(thing, root, local=[tmp_path / "mine.pth"], progress=False)
    assert (tmp_path / "mine.pth").is_file()


def test_visa_is_arranged_by_its_split(tmp_path, monkeypatch):
    """The original layout of VisA and its table of the one-class split."""
    import anomalib.data.datamodules.image.visa as visa

    monkeypatch.setattr(visa, "VISA_CATEGORIES", ("candle",))
    made, lines = tmp_path / "made", ["object,split,label,image,mask"]
    for label, split, name in (("normal", "train", "0"), ("normal", "test", "1"), ("anomaly", "test", "2")):
        image = made / "candle/Data/Images" / label.capitalize() / f"{name}.JPG"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(image, format="JPEG")
        mask = made / "candle/Data/Masks/Anomaly" / f"{name}.png" if label == "anomaly" else None
        if mask:
            mask.parent.mkdir(parents=True)
            Image.new("L", (8, 8), 3).save(mask)
        parts = ["candle", split, label, str(image.relative_to(made)), str(mask.relative_to(made)) if mask else ""]
        lines.append(",".join(parts))
    (made / "split_csv").mkdir()
    (made / "split_csv/1cls.csv").write_text("\n".join(lines) + "\n")
    with tarfile.open(tmp_path / "visa.tar", "w") as tar:
        for name in ("candle", "split_csv"):
            tar.add(made / name, name)
    check = sha((tmp_path / "visa.tar").read_bytes())
    thing = entry(file="visa.tar", check=check, install="visa", path=Path("data/visa"), images={"candle": (1, 2)})
    fetch(thing, tmp_path / "p", local=[tmp_path / "visa.tar"], progress=False)
    found = sorted(str(p.relative_to(tmp_path / "p/data/visa")) for p in (tmp_path / "p/data/visa").rglob("*.*"))
    assert found == [f"candle/{p}" for p in ("ground_truth/bad/2.png", "test/bad/2.JPG", "test/good/1.JPG", "train/good/0.JPG")]
    assert load_mask(tmp_path / "p/data/visa/candle/ground_truth/bad/2.png").all()


def test_the_licence_comes_before_the_download(data_set, server, tmp_path):
    _, archive, thing = data_set
    server.files["thing.tar.xz"] = archive.read_bytes()
    thing = thing.model_copy(update={"urls": (f"{server.url}/thing.tar.xz",)})
    root = tmp_path / "project"
    root.mkdir()
    with pytest.raises(DataError, match="its licence, CC BY-NC-SA 4.0, was not accepted"):
        fetch(thing, root, progress=False)
    assert server.seen == []
    asked = []
    fetch(thing, root, accept=lambda one: asked.append(one.name) or True, progress=False)
    assert asked == ["thing"]
    assert json.loads((root / "data/sources.json").read_text())["thing"]["origin"] == thing.urls[0]
    assert not (root / "data/downloads/thing.tar.xz").exists()


def test_a_full_disk_is_seen_before_the_download(data_set, tmp_path):
    with pytest.raises(DataError, match="needs about 1000000000 MB"):
        fetch(data_set[2].model_copy(update={"megabytes": 10**9}), tmp_path, accept=lambda _: True, progress=False)


def test_damaged_records_are_named(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/sources.json").write_text('{"mvtec_ad": {')
    with pytest.raises(DataError, match=r"sources\.json is damaged .*remove it"):
        nandlib.data.sources._records(tmp_path)


def test_one_message_lists_all_that_the_papers_study_lacks(tmp_path, monkeypatch):
    (tmp_path / "studies").mkdir()
    for name in ("dvc.yaml", "params.yaml", "studies/mvtec_ad.yaml", "studies/mini.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NAND_LOCAL", "")
    result = CliRunner().invoke(app, ["use", "studies/mvtec_ad.yaml"])
    message = str(result.exception)
    assert "names 5 file(s) or folder(s) that are not here" in message
    for name in ("mvtec_ad", "aprilgan_visa", "clip_vit_l_14_336", "clip_vit_b_16_plus_240", "wide_resnet50_2"):
        assert f"nand fetch {name} --from PATH" in message
        assert source(name).urls[0] in message
        assert str(source(name).path) in message
    doctor = CliRunner().invoke(app, ["doctor", "mvtec_ad", "--json"])
    assert doctor.exit_code == 1
    assert len(json.loads(doctor.stdout)["studies"]["mvtec_ad"]["missing"]) == 5
    assert CliRunner().invoke(app, ["doctor", "mini"]).exit_code == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**12))  # whatever this machine has
    refused = CliRunner().invoke(app, ["fetch", "mvtec_ad"])
    assert "CC BY-NC-SA 4.0" in refused.stdout
    assert "was not accepted" in str(refused.exception)
    lost = CliRunner().invoke(app, ["fetch", "aprilgan_visa", "--from", "/nowhere"])
    assert "there is no such folder or file" in str(lost.exception)


def test_doctor_says_what_is_here():
    report = examine(ROOT)
    assert report["packages"]["torch"]["installed"] == torch.__version__.split("+")[0]
    assert report["device"]["cores"] >= 1
    assert report["studies"]["mini"]["ready"]
    text = describe(report)
    for word in ("GPU", "of disk free", "mvtec_ad", "open_clip_torch"):
        assert word in text
