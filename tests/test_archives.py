"""Archives are unpacked inside their folder, whatever they hold."""

import io
import tarfile
import zipfile

import pytest

from nandlib.data.archives import extract
from nandlib.errors import DataError


def test_a_tar_that_ends_in_a_zip_is_a_tar(tmp_path):
    with zipfile.ZipFile(tmp_path / "extra.zip", "w") as packed:
        packed.writestr("inner.txt", "x")
    (tmp_path / "a.png").write_bytes(b"x" * 2000)
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("a.png", "extra.zip"):
            tar.add(tmp_path / name, name)
    assert zipfile.is_zipfile(tmp_path / "a.tar")
    extract(tmp_path / "a.tar", tmp_path / "x")
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"a.png", "extra.zip"}


@pytest.mark.parametrize("name", ["../outside.txt", "/etc/outside.txt", "link"])
def test_archives_cannot_leave_their_folder(tmp_path, name):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "../../secret"
        tar.addfile(member, io.BytesIO())
    if name.startswith("/"):  # the leading slash is dropped: the file lands inside
        extract(tmp_path / "a.tar", tmp_path / "x")
        assert (tmp_path / "x/etc/outside.txt").is_file()
        return
    with pytest.raises(DataError, match="was not unpacked"):
        extract(tmp_path / "a.tar", tmp_path / "x")
    assert {p.name for p in tmp_path.iterdir()} == {"a.tar"}
