"""What macOS and Windows do otherwise, as far as it can be seen on Linux."""

import errno
import io
import nturl2path
import os
import re
import resource
import subprocess
import sys
import warnings
from pathlib import Path, PureWindowsPath

import pytest
from tiny_project import ROOT

from nandlib import cli, memory
from nandlib.cli.app import same_file
from nandlib.data.addresses import local_path
from nandlib.data.held import written
from nandlib.errors import DataError, EngineError
from nandlib.streaming import apply, here
from nandlib.streaming.listing import Listing


def test_a_pipe_is_written_in_utf8_whatever_the_systems_encoding_is():
    code = "from nandlib.cli import main; main()"
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, "--help"], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-500:]
    assert "→" in done.stdout.decode("utf-8")


def test_a_terminal_that_lacks_a_letter_shows_another(monkeypatch):
    class Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    terminal = Terminal(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", terminal)
    cli._write_utf8()
    print("흠집 →")
    terminal.flush()
    assert terminal.buffer.getvalue() == b"?? ?\n"


@pytest.mark.parametrize(("capitals", "refused"), [(True, False), (False, True)])
def test_images_whose_names_differ_in_capitals_alone(tmp_path, monkeypatch, capitals, refused):
    monkeypatch.setattr(apply, "CAPITALS", capitals)
    shards = apply._shards(iter(["Part.png", "part.jpg"]), Listing(("x",), "x"), {}, None, apply.How(), 8, lambda _: None)
    if refused:
        with pytest.raises(DataError, match="two images are called part: .* rename one of them"):
            list(shards)
    else:
        assert [shard.images for shard in shards] == [("Part.png", "part.jpg")]


def test_one_file_by_several_names(tmp_path):
    image = tmp_path / "image.png"
    image.touch()
    (tmp_path / "LINK.png").symlink_to(image)
    (tmp_path / "other.png").hardlink_to(image)  # as IMAGE.PNG is, where capitals do not count
    assert all(same_file(tmp_path / name, [image]) for name in ("image.png", "LINK.png", "other.png"))
    assert not same_file(tmp_path / "new.png", [image, tmp_path / "gone.png"]) and not same_file(image, [tmp_path / "gone.png"])


def test_images_on_several_drives(tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()

    def apart(_: object) -> str:
        raise ValueError("Paths don't have the same drive")

    monkeypatch.setattr(os.path, "commonpath", apart)
    with pytest.raises(DataError, match="lie on several drives: give images of one"):
        Listing.of([tmp_path / "a.png", tmp_path / "b.png"])


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_a_folder_that_the_system_protects(monkeypatch, capsys, number):
    def refused() -> None:
        raise PermissionError(number, os.strerror(number), "/Desktop")

    monkeypatch.setattr(cli, "app", refused)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1 and "/Desktop" in capsys.readouterr().err


def test_a_warning_on_the_command_line_is_a_sentence(monkeypatch):
    monkeypatch.setattr(cli, "app", lambda: None)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    cli.main()
    assert warnings.formatwarning(UserWarning("give more"), UserWarning, "adapt.py", 114) == "nand: give more\n"
    assert warnings.formatwarning(FutureWarning("soon"), FutureWarning, "x.py", 1) == "FutureWarning: soon\n"


def test_a_file_that_another_program_has_open(tmp_path, monkeypatch):
    def refused(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Access is denied")

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(DataError, match="close the program in which it is open"):
        written(tmp_path / "scores.csv", lambda partial: partial.write_text("x"))


def test_no_process_is_forked_where_that_cannot_be(monkeypatch):
    monkeypatch.setattr(here, "FORKS", False)
    with pytest.raises(EngineError, match="this system forks no processes: leave workers out"):
        here.Here(2)
    assert here.Here(threads=2).workers is None


def test_the_peak_of_memory_is_in_gigabytes_on_both_systems(monkeypatch):
    class Used:
        ru_maxrss = 2_000_000

    monkeypatch.setattr(resource, "getrusage", lambda who: Used)
    for system, gigabytes in (("linux", 2.048), ("darwin", 0.002)):
        monkeypatch.setattr(sys, "platform", system)
        assert memory.peak_gigabytes() == memory.peak_gigabytes(children=True) == gigabytes


def test_an_address_of_a_drive(monkeypatch):
    address = PureWindowsPath("C:\\my images\\a.png").as_uri()
    monkeypatch.setattr("nandlib.data.addresses.url2pathname", nturl2path.url2pathname)
    assert str(local_path(address)) == "C:\\my images\\a.png"


def test_make_asks_a_shell_for_commands():
    """GNU make 3.81 runs plain lines by itself, and looks for their commands in another PATH than the Makefile's."""
    said = (ROOT / "Makefile").read_text()
    (shell,) = re.findall(r"^SHELL := (.*?) #", said, re.MULTILINE)
    assert shell.startswith("$(shell command -v bash ") and said.index("\nSHELL := ") < said.index("\nstudy:")
