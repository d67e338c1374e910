"""Weights and data that are not made here: what they are, and how an honest copy of them comes to its place.

Local first: a folder, an archive or a checkpoint that is on this machine is verified and used without any network. Otherwise
the file is downloaded (resumed where the server allows), verified, unpacked or converted, and its origin is recorded.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nandlib.data.archives import extract
from nandlib.data.download import BLOCK, FAILURES, retrieve
from nandlib.data.held import held, written
from nandlib.data.images import is_hidden, is_image
from nandlib.errors import DataError, PresetError, nearest, without_secrets
from nandlib.settings import RESOURCES, read_yaml

LOCAL = "NAND_LOCAL"  # environment: folders with files that are here already, separated as in PATH
MIRROR = "NAND_MIRROR"  # environment: addresses under which the files lie by name, separated by blanks; tried first

OF_WINDOWS = ("thumbs.db", "desktop.ini")  # which it puts into folders that are looked at


class Source(BaseModel):
    """One entry of ``resources/sources.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    licence: str
    accept: bool = Field(False, description="whether the licence must be accepted before a download")
    file: str = ""
    urls: tuple[str, ...] = Field(description="of the file; of its authors' page, where it is brought by hand")
    check: dict[Literal["sha256", "sha256_prefix", "git_blob", "md5"], str] = Field({}, description="empty where nothing is published")
    parts: dict[str, str] = Field({}, description="in place of one file: name of each archive → sha256; addresses are then of their folder")
    megabytes: int = 0
    path: Path
    install: Literal["extract", "visa", "convert", "by_hand"]
    images: dict[str, tuple[int, int]] | None = None
    pattern: str = Field("*/*", description="where images lie below <class>/<split>")

    def addresses(self) -> list[str]:
        """Where to download from, in order."""
        mirrors = os.environ.get(MIRROR, "").split()
        return [f"{mirror.rstrip('/')}/{self.file}" for mirror in mirrors] + list(self.urls)

    def alone(self) -> list[Source]:
        """One source for each of its `parts`, which goes to a folder of its stem."""
        return [
            self.model_copy(
                update={
                    "name": f"{self.name}/{Path(file).stem}",
                    "file": file,
                    "urls": tuple(f"{url}{file}" for url in self.urls),
                    "check": {"sha256": digest},
                    "parts": {},
                    "megabytes": self.megabytes // len(self.parts),
                    "path": self.path / Path(file).stem,
                }
            )
            for file, digest in self.parts.items()
        ]

    def describe(self) -> str:
        return f"{self.title}; {self.licence}" + (f"; about {self.megabytes} MB" if self.megabytes else "")


@cache
def sources() -> dict[str, Source]:
    """Every source by name."""
    return {name: Source(name=name, **entry) for name, entry in read_yaml(RESOURCES / "sources.yaml").items()}


def source(name: str) -> Source:
    """The source of that name.

    Raises:
        PresetError: If there is none.
    """
    if name not in sources():
        raise PresetError(f"no source '{name}': {nearest(name, sources())}")
    return sources()[name]


def source_of(path: Path) -> Source | None:
    """The source that belongs at a path of a preset."""
    return next((entry for entry in sources().values() if entry.path == path), None)


def verify(path: Path, entry: Source) -> None:
    """Compare a file with what is published of its content.

    Raises:
        DataError: If it is another file; the message has both hashes.
    """
    for kind, expected in entry.check.items():
        found = _digest(path, kind)
        if not found.startswith(expected):
            raise DataError(f"{path} is not {entry.file}: {kind} is {found}, published is {expected}. Delete it and fetch it again")


def _digest(path: Path, kind: str) -> str:
    if kind == "git_blob":
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        digest = hashlib.new("md5" if kind == "md5" else "sha256", usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def state(entry: Source, root: Path) -> str:
    """What is known of a source's place: ``missing``, ``verified``, ``changed``, or ``unverified`` (brought by hand).

    Verified is a data set with its published numbers of images, or what is as it was when it was made from a verified original: a file by
    its hash, a folder by its number of files.
    """
    target = root / entry.path
    if entry.parts:
        found = {state(part, root) for part in entry.alone()}
        return next((worst for worst in ("missing", "changed", "unverified") if worst in found), "verified")
    if not target.exists():
        return "missing"
    if entry.images and target.is_dir():
        try:
            check_images(target, entry)
        except DataError:
            return "changed"
        return "verified"
    recorded = _records(root).get(entry.name, {}).get("installed")
    if recorded is None:
        return "unverified"
    return "verified" if recorded == _installed(target) else "changed"


def _installed(target: Path) -> str:
    """What a later look at a place is compared with."""
    if target.is_file():
        return _digest(target, "sha256")
    return f"{sum(path.is_file() and not is_hidden(path.name) and path.name.lower() not in OF_WINDOWS for path in target.rglob('*'))} files"


def check_images(root: Path, entry: Source) -> None:
    """Compare a data set with its published numbers of images.

    Raises:
        DataError: If a class is missing or has another number of images.
    """
    for class_name, published in (entry.images or {}).items():
        parts = (root / class_name / split for split in ("train", "test"))
        found = tuple(sum(1 for path in part.glob(entry.pattern) if is_image(path.name)) for part in parts)
        if found != published:
            raise DataError(
                f"{root} is not {entry.title}: class '{class_name}' has {found[0]} training and {found[1]} test images, "
                f"published are {published[0]} and {published[1]}"
            )


def fetch(
    entry: Source,
    root: Path,
    *,
    local: Sequence[Path] = (),
    accept: Callable[[Source], bool] = lambda _: False,
    progress: bool = True,
) -> str:
    """Bring one source to its place in the project and say where it came from.

    Args:
        entry: What to fetch.
        root: The project.
        local: Folders, archives or checkpoints to look at first; those of `LOCAL` and ``data/downloads`` follow. Files must fit;
            what is not in a folder is downloaded.
        accept: Asked before the download of a source whose licence must be accepted.
        progress: Show a progress bar.

    Raises:
        DataError: If a file is not what it should be, the licence is not accepted, the disk is too small, or it can
            neither be found nor downloaded.
    """
    target = root / entry.path
    if target.is_symlink() and not target.exists():
        target.unlink()  # a link to what is gone
    if entry.parts:
        parts = entry.alone()
        if local and all(place.is_file() for place in local):  # some of them
            parts = [part for part in parts if _find(part, local)]
            if not parts:
                raise DataError(f"{', '.join(map(str, local))}: none of {', '.join(entry.parts)} as published: nothing was fetched")
        agreed = cache(lambda: accept(entry))  # asked once
        return "; ".join(fetch(part, root, local=local, accept=lambda _: agreed(), progress=progress) for part in parts)
    if target.exists():
        return _report(entry, root)
    found = _find(entry, local) or _find(entry, _local_folders(root), named=False)
    if entry.install == "by_hand" and found is None:
        known = "" if entry.images else ", and what is there stays unverified"
        raise DataError(
            f"{entry.title}: get it from its authors, {entry.urls[0]} ({entry.licence}), and put it, or a link to it, at {entry.path}: "
            f"no hash of it is known, so nothing is downloaded{known}"
        )
    if found is None and local and all(place.is_file() for place in local):
        raise DataError(f"{', '.join(map(str, local))}: not {entry.file}, or not as published: nothing was fetched")
    if found is not None and found.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(found.resolve(), target_is_directory=True)
        _record(entry, root, f"link to {found}")
        return f"{entry.path} → {found}"
    _check_disk(entry, root)
    if found is not None:
        _install(entry, found, target)
        _record(entry, root, str(found))
        return f"{entry.path} from {found}"
    if entry.accept and not accept(entry):
        raise DataError(f"{entry.name}: its licence, {entry.licence}, was not accepted: nothing was downloaded")
    with held(root / "data" / "downloads"):  # several sources may be one file
        file, url = download(entry, root / "data" / "downloads", progress)
        _install(entry, file, target)
        origin = without_secrets(url)
        _record(entry, root, origin)
        file.unlink()
    return f"{entry.path} from {origin}"


def _report(entry: Source, root: Path) -> str:
    found = state(entry, root)
    if found == "changed":
        raise DataError(f"{entry.path} is not what was fetched, or is incomplete: delete it and fetch {entry.name} again")
    return f"{entry.path} is there, {found}"


def _local_folders(root: Path) -> list[Path]:
    named = [Path(part) for part in os.environ.get(LOCAL, "").split(os.pathsep) if part]
    return [*named, root / "data" / "downloads"]


def _find(entry: Source, places: Iterable[Path], named: bool = True) -> Path | None:
    """The verified file or data set folder among `places`: a file by its name or, under another one, by its hash.

    Raises:
        DataError: If a file has the name but not the content; or if a data set is incomplete, in a place that was `named` for this.
    """
    for place in places:
        path = place if place.is_file() else place / entry.file
        if entry.file and path.is_file() and (path.name == entry.file or _fits(path, entry)):
            verify(path, entry)
            return path
        for folder in (place, place / entry.path.name, place / entry.file.split(".")[0]):
            if entry.images and (folder / next(iter(entry.images)) / "train").is_dir():
                try:
                    check_images(folder, entry)
                    return folder
                except DataError:
                    if named:
                        raise
    return None


def _fits(path: Path, entry: Source) -> bool:
    return all(_digest(path, kind).startswith(expected) for kind, expected in entry.check.items())


def _check_disk(entry: Source, root: Path) -> None:
    (root / "data").mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root / "data").free // 10**6
    if free < entry.megabytes:
        raise DataError(f"{entry.name} needs about {entry.megabytes} MB, {root} has {free} MB free")


def download(entry: Source, folder: Path, progress: bool = True) -> tuple[Path, str]:
    """Download and verify a source's file: the file and the address that had it.

    Raises:
        DataError: If no address has it; the message lists why, and what to do without a network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial, problems = folder / f"{entry.file}.part", []
    for url in entry.addresses():
        try:
            retrieve(url, partial, 2_000_000 * entry.megabytes, progress)
            try:
                verify(partial, entry)
            except DataError:
                partial.unlink()
                raise
            return partial.rename(folder / entry.file), url
        except (*FAILURES, DataError) as error:
            problems.append(f"  {url}: {str(error).splitlines()[0]}")
    raise DataError(
        f"{entry.file} could not be downloaded:\n" + "\n".join(problems) + f"\nPut it into {folder}, or name its place: "
        f"nand fetch {entry.name} --from PATH"
    )


def _install(entry: Source, file: Path, target: Path) -> None:
    if entry.install == "convert":
        from nandlib.models.checkpoints import convert  # wants torch, which tables alone do not

        convert(file, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    extract(file, partial)
    inside = partial / target.name  # an archive that holds its folder
    ready = _arrange_visa(partial) if entry.install == "visa" else inside if inside.is_dir() else partial
    check_images(ready, entry)
    ready.replace(target)
    shutil.rmtree(partial, ignore_errors=True)


def _arrange_visa(folder: Path) -> Path:
    """VisA's one-class split in MVTec AD layout."""
    from anomalib.data import Visa

    Visa(root=folder).apply_cls1_split()
    return folder / "visa_pytorch"


def _records(root: Path) -> dict[str, Any]:
    path = root / "data" / "sources.json"
    try:
        found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): remove it, and fetch again what is missing") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is damaged (it holds no names of sources): remove it, and fetch again what is missing")
    return found


def _record(entry: Source, root: Path, origin: str) -> None:
    target, path = root / entry.path, root / "data" / "sources.json"
    made = {} if target.is_symlink() else {"installed": _installed(target)}
    about = {"origin": origin, "licence": entry.licence, "date": date.today().isoformat(), **entry.check, **made}
    records = _records(root) | {entry.name: about}
    written(path, lambda partial: partial.write_text(json.dumps(records, indent=2)))
