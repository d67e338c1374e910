"""Weights and data that are not made here: what they are, and how an honest copy of them comes to its place.

Local first: a folder, an archive or a checkpoint that is on this machine is verified and used without any network. Otherwise
the file is downloaded (resumed where the server allows), verified, unpacked or converted, and its origin is recorded.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

from nandlib.data.archives import extract
from nandlib.data.download import FAILURES, retrieve
from nandlib.data.held import held, written
from nandlib.data.images import is_hidden
from nandlib.data.published import Source, check_images, digest, verify
from nandlib.errors import DataError, without_secrets

LOCAL = "NAND_LOCAL"  # environment: folders with files that are here already, separated as in PATH

OF_WINDOWS = ("thumbs.db", "desktop.ini")  # which it puts into folders that are looked at


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
    if entry.images:
        return "changed" if wrong_images(entry, root) else "verified"
    recorded = _records(root).get(entry.name, {}).get("installed")
    if recorded is None:
        return "unverified"
    return "verified" if recorded == _installed(target) else "changed"


def _installed(target: Path) -> str:
    """What a later look at a place is compared with."""
    if target.is_file():
        return digest(target, "sha256")
    return f"{sum(path.is_file() and not is_hidden(path.name) and path.name.lower() not in OF_WINDOWS for path in target.rglob('*'))} files"


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
        looked = f" ({', '.join(map(str, local))}: neither {entry.file} nor what was unpacked from it was found there)" if local else ""
        raise DataError(f"{entry.name}: its licence, {entry.licence}, was not accepted: nothing was downloaded{looked}")
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
        raise DataError(f"{entry.path} {why_changed(entry, root)}")
    return f"{entry.path} is there, {found}"


def why_changed(entry: Source, root: Path) -> str:
    """What is wrong with a source's place that is ``changed``, or of whose parts some are ``missing`` (`state`), and what to do; the place
    itself is not named."""
    for part in entry.alone():
        found = state(part, root)
        if found == "missing":
            return f"lacks '{part.path.name}': nand fetch {entry.name}"
        if found == "changed":
            return f"holds '{part.path.name}', which {why_changed(part, root)}"
    return (wrong_images(entry, root) if entry.images else "") or _again(entry)


def _again(entry: Source) -> str:
    wrong, name = "is not what was fetched, or is incomplete", entry.name.partition("/")[0]  # a part is fetched with the others
    return f"{wrong}: get it again from {entry.urls[0]}" if entry.install == "by_hand" else f"{wrong}: delete it and fetch {name} again"


def wrong_images(entry: Source, root: Path, left_out: Collection[str] = ()) -> str:
    """What is wrong with a known data set in its place, and what to do, but for classes that are `left_out`; empty if nothing is."""
    target = root / entry.path
    try:
        check_images(target, entry, left_out)
    except DataError as error:
        with suppress(OSError):  # of a file, or of a folder that cannot be looked into
            if within := next((below for below in sorted(target.iterdir()) if _looks_like(entry, below)), None):
                return f"holds it in its folder '{within.name}': move what is in there to {entry.path}, or make {entry.path} a link to it"
        return f"{_again(entry)} ({error})"
    return ""


def _looks_like(entry: Source, folder: Path) -> bool:
    """Whether a folder has most of a data set's classes."""
    names = entry.images or {}
    return 2 * sum((folder / name / "train").is_dir() for name in names) > len(names)


def _local_folders(root: Path) -> list[Path]:
    named = [Path(part) for part in os.environ.get(LOCAL, "").split(os.pathsep) if part]
    return [*named, root / "data" / "downloads"]


def _find(entry: Source, places: Iterable[Path], named: bool = True) -> Path | None:
    """The verified file or data set folder among `places`: a file by its name or, under another one, by its hash.

    Raises:
        DataError: If a file has the name but not the content; or if a data set is incomplete, in a place that was `named` for this.
    """
    for place in places:
        for path in [place] if place.is_file() else _named_alike(place, entry):
            if path.name == entry.file or _fits(path, entry):
                verify(path, entry)
                return path
        stem = entry.file.split(".")[0]
        for folder in dict.fromkeys((place, place / entry.path.name, place / stem, *(sorted(place.glob(f"*/{stem}")) if stem else ()))):
            if _looks_like(entry, folder):
                try:
                    check_images(folder, entry)
                    return folder
                except DataError:
                    if named:
                        raise
    return None


def _named_alike(folder: Path, entry: Source) -> list[Path]:
    """Files of a folder that may be the source's: that of its name first, then those that a browser has numbered."""
    if not entry.file:
        return []
    stem, ending = entry.file.split(".")[0], "".join(Path(entry.file).suffixes[-1:])
    found = sorted(path for path in folder.glob(f"{glob.escape(stem)}*{ending}") if path.is_file() and path.name != entry.file)
    return [*([folder / entry.file] if (folder / entry.file).is_file() else []), *found]


def _fits(path: Path, entry: Source) -> bool:
    return all(digest(path, kind).startswith(expected) for kind, expected in entry.check.items())


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
