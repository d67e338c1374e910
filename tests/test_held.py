"""A folder that one process at a time writes to, and files that are there whole or not at all."""

import pytest

from nandlib.data.held import held, written
from nandlib.errors import DataError


def test_a_folder_that_could_not_be_held_is_free_again(tmp_path, monkeypatch):
    with monkeypatch.context() as broken:
        broken.setattr("pathlib.Path.write_text", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(DataError, match="cannot be written to"), held(tmp_path):
            pass
    with held(tmp_path):
        pass


def test_no_part_of_a_file_is_left_whatever_went_wrong(tmp_path):
    with pytest.raises(ZeroDivisionError):
        written(tmp_path / "a", lambda partial: partial.write_bytes(b"x") / 0)
    assert not list(tmp_path.iterdir())


def test_an_owner_that_has_just_left(tmp_path):
    with held(tmp_path):
        (tmp_path / ".owner").unlink()
        with pytest.raises(DataError, match="process unknown is at work there"), held(tmp_path):
            pass
