"""What detectors need beyond the similarities: maps of WinCLIP, PatchCore and the trained ones, distances of few-shot APRIL-GAN."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.data.held import written
from nandlib.detectors.aprilgan import ReferenceDistance
from nandlib.detectors.base import TorchDetector
from nandlib.detectors.config import TOGETHER, TRAINED_NAMES, DetectorName, family_of
from nandlib.detectors.fitted import FittedDetector
from nandlib.detectors.patchcore import PatchCore
from nandlib.detectors.trained import TRAINED
from nandlib.detectors.training import Run
from nandlib.detectors.winclip import ClipWindowEncoder, WinClip, WindowEncoder
from nandlib.errors import PresetError
from nandlib.memory import peak_gigabytes
from nandlib.method.operators import resize_map
from nandlib.models import VisionLanguageModel
from nandlib.study.fingerprint import content, digest, source_code, weight_contents
from nandlib.study.fitted import patchcore_of, state_path
from nandlib.study.images import batches, image_paths, some_normals
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy
from nandlib.study.rows import Rows
from nandlib.study.shots import normal_shots, window_encoder
from nandlib.study.store import WHOLE, Made, bring_up_to_date, is_current, keep_only, save, shards_of

FAMILIES = {  # of detectors that are not trained: the modules that compute
    "aprilgan": ("nandlib.detectors.aprilgan", "nandlib.study.shots"),
    "winclip": ("nandlib.study.shots",),
    "patchcore": ("nandlib.detectors.patchcore",),
}
NEW = ".new"  # a state that has not replaced the one before
FITTING = "fitting.json"  # beside a study's maps, not one of the pipeline's files: seconds differ from run to run


def write_maps(study: OpenStudy, progress: bool = True) -> None:
    """Maps ``(n, S, S)`` float32: ``<detector>/test`` (and ``train``) in shards of images, a folder a family of detectors and class, and
    PatchCore's ``normals`` in a file of the whole class.

    Detectors that are trained leave their state in ``maps/states/``, and so does a training that is stopped: it is gone on with.
    """
    clear_maps(study)
    for families in families_of(study):
        work = Maps(study, families, progress)
        for class_name in tqdm(study.classes(), desc=" ".join(families), disable=not progress):
            work.bring_up_to_date(class_name)
        work.finish()


def clear_maps(study: OpenStudy) -> None:
    """Delete what is of no detector, class or shard of the study."""
    for family in (*FAMILIES, *TRAINED_NAMES):
        folder, classes = study.data / "maps" / family, study.classes() if _names(study, family) else []
        keep_only(folder, classes)
        for class_name in classes:
            whole = [WHOLE] if family == "patchcore" and len(image_paths(study, class_name, "train")) > 1 else []
            keep_only(folder / class_name, [*whole, *(name for name, *_ in shards_of(study, class_name))])
    for left in study.states.glob(f"*{NEW}"):  # by a run that was killed
        left.unlink()
    if not set(TRAINED_NAMES) & set(study.config.detectors):
        shutil.rmtree(study.states, ignore_errors=True)


def families_of(study: OpenStudy) -> list[tuple[str, ...]]:
    """Families of detectors whose maps are made together, since they share passes, and one after the other where networks are large.

    Raises:
        PresetError: If there is a detector of no family.
    """
    if strange := [name for name in study.config.detectors if family_of(name) not in (*FAMILIES, *TRAINED)]:
        raise PresetError(f"detectors: no stage makes maps of '{strange[0]}': FAMILIES in nandlib/stages/maps.py, or detectors/trained.py")
    present = tuple(family for family in FAMILIES if _names(study, family))
    together = [present] if study.config.model.name == "mini" and present else [(family,) for family in present]
    return [*together, *((name,) for name in TRAINED_NAMES if name in study.config.detectors)]


def _names(study: OpenStudy, family: str) -> list[DetectorName]:
    return [name for name in study.config.detectors if family_of(name) == family and name != "aprilgan"]


class Maps:
    """Writes one class's files of some families of detectors, which share the pass of an image through the embedded tower; what is there
    as it must be stays."""

    def __init__(self, study: OpenStudy, families: Sequence[str], progress: bool) -> None:
        self.study, self.families, self.config, self.progress = study, families, study.config, progress
        modules = {family: FAMILIES.get(family) or (TRAINED[family].__module__,) for family in families}
        self.code = {family: source_code(__name__, *own, "nandlib.study.images") for family, own in modules.items()}
        self.weights = {family: weight_contents(study, "model", family, f"trained.{family}") for family in families}
        self._built: tuple[str, dict[str, TorchDetector]] = ("", {})
        self.seconds, self.unfinished, self.joint = dict[str, list[float]](), list[Path](), dict[str, FittedDetector[Any]]()
        self.resumed: set[str] = set()  # trainings that went on where they had been stopped: how long they took is not known

    def forget(self) -> None:
        """What stopped trainings had left, once the files of all their classes are there."""
        for path in self.unfinished:
            path.unlink(missing_ok=True)
        self.unfinished.clear()

    def finish(self) -> None:
        """Forget that; note how long fitting took, where all of it was done now, and this process's memory; of what was fitted now in
        part, nothing stands that was noted before."""
        self.forget()
        path, expected = self.study.data / FITTING, len(self.study.classes())
        peak = round(peak_gigabytes(), 2)
        whole = {k: sum(own) for k, own in self.seconds.items() if k not in self.resumed and len(own) == (1 if k in TOGETHER else expected)}
        found = {name: {"train_s": round(seconds, 1), "peak_gb": peak} for name, seconds in whole.items()}
        if self.seconds:
            known = json.loads(path.read_text()) if path.is_file() else {}
            found = {name: entry for name, entry in known.items() if name not in self.seconds} | found
            written(path, lambda partial: partial.write_text(json.dumps(found, indent=2) + "\n"))

    def bring_up_to_date(self, class_name: str, some: slice = slice(None)) -> None:
        """The files of that class: of `some` of its shards, and those of the whole class with the first one."""
        train = content(image_paths(self.study, class_name, "train"))
        for name, split, paths in shards_of(self.study, class_name)[some]:
            images = content(paths)
            keys = {family: self._fingerprint(family, f"{class_name}/{split}", train, images) for family in self.families}
            kept = {family for family in self.families if family not in TRAINED or state_path(self.study, family, class_name).is_file()}
            stale = [f for f in self.families if f not in kept or not is_current(self._file(f, class_name, name), keys[f])]
            found = self._of_images(class_name, split, paths, stale)
            for family in stale:
                own = {key: maps for key, maps in found.items() if family_of(key.split("/")[0]) == family}
                save(self._file(family, class_name, name), own, {}, keys[family])
        if not some.start and "patchcore" in self.families and len(train) > 1:
            path, key = self._file("patchcore", class_name, WHOLE), self._fingerprint("patchcore", f"{class_name}/normals", train)
            bring_up_to_date(path, key, partial(self._of_normals, class_name, len(train)))

    def _file(self, family: str, class_name: str, name: str) -> Path:
        return self.study.data / "maps" / family / class_name / name

    def _fingerprint(self, family: str, part: str, *images: list[str]) -> str:
        config, study = self.config, self.study
        if family in TRAINED:
            parameters: Any = config.trained.of(family).model_dump()
        elif family == "aprilgan":
            parameters = (config.winclip.seed, config.nand.align_corners)
        else:
            parameters = (config.winclip if family == "winclip" else config.patchcore).model_dump()
        settings = (config.model.model_dump(), parameters, config.nand.map_size, _names(study, family), part)
        return digest(self.code[family], self.weights[family], *settings, *images, *(self._all_normals if family in TOGETHER else ()))

    @cached_property
    def _all_normals(self) -> list[list[str]]:
        return [content(image_paths(self.study, class_name, "train")) for class_name in self.study.classes()]

    @torch.no_grad()
    def _of_images(self, class_name: str, split: str, paths: Sequence[Path], families: Sequence[str]) -> dict[str, Tensor]:
        """``<detector>/<split>`` of images."""
        size, tensors = (self.config.nand.map_size,) * 2, dict[str, Tensor]()
        detectors = {name: self._detector(name, class_name) for family in families for name in _names(self.study, family)}
        for preprocess in dict.fromkeys(detector.preprocess for detector in detectors.values()):
            own = {name: detector for name, detector in detectors.items() if detector.preprocess == preprocess}
            maps = {name: Rows(len(paths)) for name in own}
            for batch in batches(paths, preprocess):
                for name, detector in own.items():
                    maps[name].add(resize_map(detector.maps(batch).float(), size))
            tensors |= {f"{name}/{split}": rows.tensor() for name, rows in maps.items()}
        return tensors

    @torch.no_grad()
    def _of_normals(self, class_name: str, count: int) -> Made:
        """``patchcore/normals``: maps of training-normal images, each without its own part of the memory."""
        detector, size = self._detector("patchcore", class_name), (self.config.nand.map_size,) * 2
        assert isinstance(detector, PatchCore)
        return {"patchcore/normals": resize_map(detector.normal_maps(some_normals(count)).float(), size)}, {}

    def _detector(self, name: DetectorName, class_name: str) -> TorchDetector:
        """Those of the last class are held."""
        if self._built[0] != class_name:
            self._built = class_name, {}
        known = self._built[1]
        if name not in known:
            known[name] = self._build(name, class_name)
        return known[name]

    def _build(self, name: DetectorName, class_name: str) -> TorchDetector:
        if name == "patchcore" or name in TRAINED:
            start, fitted = time.perf_counter(), len(self.joint)
            found = patchcore_of(self.study, lambda: self._model, class_name) if name == "patchcore" else self._trained(name, class_name)
            if name not in TOGETHER or len(self.joint) > fitted:
                self.seconds.setdefault(name, []).append(time.perf_counter() - start)
            return found
        if family_of(name) not in ("aprilgan", "winclip"):
            raise PresetError(f"detectors: nothing makes maps of '{name}': Maps in nandlib/stages/maps.py")
        references = normal_shots(self.study, class_name, name)
        if family_of(name) == "winclip":
            return WinClip(self._encoder, class_name, references)
        return ReferenceDistance(self._model, references, self.config.nand)

    def _trained(self, name: str, class_name: str) -> FittedDetector[Any]:
        """Trained on this class, or once on all of them."""
        if name not in TOGETHER:
            return self._fitted(name, state_path(self.study, name, class_name), [class_name])
        if name not in self.joint:
            self.joint[name] = self._fitted(name, state_path(self.study, name, class_name), self.study.classes())
        return self.joint[name].of_class(class_name)

    def _fitted(self, name: str, state: Path, classes: Sequence[str]) -> FittedDetector[Any]:
        config, stopped = self.study.resolved(self.config.trained.of(name)), state.with_suffix(".pt")
        if stopped.is_file():
            self.resumed.add(name)
        run = Run(stopped, self.progress, self.config.model.device)
        normals = {class_name: image_paths(self.study, class_name, "train") for class_name in classes}
        with torch.enable_grad():
            found = TRAINED[name].fit(normals, self._model if config.backbone == "embedded" else None, config, run)
        fresh = found.save(state.with_suffix(f".{os.getpid()}{NEW}"))  # workers of a cluster may write one at once
        if state.is_file() and state.read_bytes() != fresh.read_bytes():
            for class_name in classes:  # no map of another state stands beside it, whenever this is killed
                keep_only(self.study.data / "maps" / name / class_name, [])
        fresh.replace(state)
        self.unfinished.append(stopped)
        return found

    @cached_property
    def _model(self) -> VisionLanguageModel:
        return model_of(self.study)

    @cached_property
    def _encoder(self) -> WindowEncoder | ClipWindowEncoder:
        return window_encoder(self.study, lambda: self._model)
