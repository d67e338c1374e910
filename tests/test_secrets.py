"""Secrets that are planted where users have them: no file, log, notebook or message of a run may hold one."""

import json
import logging
import os
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
import tiny_project
from fsspec.implementations.local import LocalFileSystem
from PIL import Image
from typer.testing import CliRunner

from nandlib.cli import app
from nandlib.data.published import Source
from nandlib.data.sources import fetch
from nandlib.errors import DataError, without_secrets
from nandlib.study.prompt_generator import Endpoint, generate

PLANTED = tiny_project.PLANTED


def holding(folder: Path) -> list[str]:
    """Files below a folder that hold the planted secret."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            content += pd.read_parquet(path).to_csv().encode() if path.suffix == ".parquet" else b""
            if PLANTED.encode() in content or PLANTED in path.name:
                found.append(str(path.relative_to(folder)))
    return found


def test_the_search_finds_a_secret(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/notes.txt").write_text(f"key = {PLANTED}")
    pd.DataFrame({"key": [PLANTED[:9], PLANTED]}).to_parquet(tmp_path / "table.parquet", compression="gzip")
    (tmp_path / "fine.txt").write_text("key")
    assert sorted(holding(tmp_path)) == ["a/notes.txt", "table.parquet"]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("s3://me:word@host/a/b.png is missing", "s3://...@host/a/b.png is missing"),
        ("see https://host/a?token=word&b=c#d, please", "see https://host/a?token=...&b=...#d, please"),
        ("https://me:w@rd@host/a", "https://...@host/a"),
        ("https://host/a@b", "https://host/a@b"),
        ("me@example.org wrote a?b=c", "me@example.org wrote a?b=c"),
    ],
)
def test_addresses_without_secrets(given, shown):
    assert without_secrets(given) == shown == str(DataError(given))


def test_a_study_keeps_no_secret_of_its_environment(project):
    assert set(tiny_project.SECRETS) & set(os.environ) == set(), "they belong to the commands alone"
    assert (project / "run.log").is_file() and list((project / "figures/tiny").rglob("*.ipynb"))
    assert holding(project) == []


class Handler(BaseHTTPRequestHandler):
    """The file ``thing.bin`` for whoever has the password; an answer of a language model; else an error that repeats the request."""

    def do_GET(self) -> None:
        known = self.headers.get("Authorization", "").startswith("Basic ") and self.path.startswith("/mirror/thing.bin")
        self.send_response(200 if known else 403, None if known else f"no {self.path}")
        self.end_headers()
        self.wfile.write(b"content" if known else self.path.encode())

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps(["hole", "a hole", "round hole", "torn hole", f"{self.headers['Authorization'].split()[1]} hole"])
        body = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def host():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("found", [True, False])
def test_a_mirror_with_a_password(found, host, tmp_path, monkeypatch, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("NAND_MIRROR", f"http://me:{PLANTED}@{host}/" + ("mirror" if found else f"other?token={PLANTED}&x="))
    sha256 = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    make = partial(Source, name="thing", title="A thing", licence="CC0-1.0", megabytes=1, path=Path("data/thing"), install="convert")
    thing = make(file="thing.bin", urls=(), check={"sha256": sha256})
    monkeypatch.setattr("nandlib.models.checkpoints.convert", lambda file, target: target.write_bytes(file.read_bytes()))
    if found:
        said = fetch(thing, tmp_path, progress=False)
        assert "...@127.0.0.1" in said and json.loads((tmp_path / "data/sources.json").read_text())["thing"]["origin"] in said
    else:
        with pytest.raises(DataError, match=r"http://\.\.\.@127.0.0.1") as error:
            fetch(thing, tmp_path, progress=False)
        said = str(error.value)
    assert PLANTED not in said + "".join(capfd.readouterr())
    assert PLANTED not in "".join(record.getMessage() for record in caplog.records if record.name.startswith("nand"))
    assert holding(tmp_path) == []


class Walled(LocalFileSystem):
    """This machine's files under ``walled://user:password@host/``."""

    protocol = "walled"

    @classmethod
    def _strip_protocol(cls, path):
        return LocalFileSystem._strip_protocol(path.split("@host", 1)[-1] if "://" in str(path) else path)


def test_images_behind_a_password(tmp_path, heads_file, caplog):
    fsspec.register_implementation("walled", Walled, clobber=True)
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for k in range(2):
        Image.fromarray(np.full((40, 40, 3), 60 * k, np.uint8)).save(images / f"{k}.png")
    (images / "2.png").write_bytes(b"no image")
    words = ["apply", f"walled://me:{PLANTED}@host{images}", "-t", "hair", "--detector", "aprilgan", "--model", str(heads_file)]
    runner = CliRunner()
    result = runner.invoke(app, [*words, "-o", str(out), "--skip-unreadable"])
    assert result.exit_code == 0, result.output
    assert PLANTED not in result.output + caplog.text and holding(out) == []
    assert "walled://...@host" in (out / "unreadable.csv").read_text()
    result = runner.invoke(app, [*words, "-o", str(tmp_path / "other")])
    assert isinstance(result.exception, DataError) and "walled://...@host" in str(result.exception)
    assert PLANTED not in str(result.exception) + result.output
    result = runner.invoke(
        app, ["apply", f"walled://me:{PLANTED}@host{tmp_path}/none", "-t", "hair", "--detector", "aprilgan", "-o", str(out)]
    )
    assert isinstance(result.exception, DataError) and PLANTED not in str(result.exception)


def test_a_language_model_that_tells_the_key(host, tmp_path, caplog):
    endpoint = Endpoint(f"http://me:{PLANTED}@{host}/v1", "some-model", PLANTED, retries=0)
    phrases = generate({"carpet": ["hole"]}, tmp_path / "prompts.yaml", endpoint, progress=False)
    assert phrases["carpet"]["hole"][-1] == "*** hole"  # what stands for the key
    assert PLANTED not in caplog.text + repr(endpoint) and holding(tmp_path) == []
