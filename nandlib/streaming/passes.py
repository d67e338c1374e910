"""A study's passes through networks, a class of a stage at a time, on an engine: the stages then find their files as they make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from nandlib.detectors.config import TOGETHER
from nandlib.stages.maps import Maps, families_of
from nandlib.stages.similarities import Similarities
from nandlib.study.open_study import OpenStudy, open_study

SIMILARITIES = ("similarities",)  # a part that is no family of detectors


@dataclass(frozen=True)
class Part:
    """What one worker does at a time: a family's maps, or the similarities, of a class; of all, where one detector serves them all."""

    families: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Passes:
    """Does parts of a study where it is unpickled, which must see the project's folder; what it has loaded it keeps from part to part.

    Attributes:
        root: The project.
        study: Name of a study whose manifest is there.
    """

    root: Path
    study: str
    _loaded: dict[tuple[str, ...], Similarities | Maps] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, part: Part) -> int:
        """The number of classes that are done."""
        with chdir(self.root):  # where stages run: a preset's paths are relative to it
            if part.families not in self._loaded:
                self._loaded.clear()  # of another family: networks may be large
                opened = open_study(self.study, self.root)
                self._loaded[part.families] = Similarities(opened) if part.families == SIMILARITIES else Maps(opened, part.families, False)
            stage = self._loaded[part.families]
            for class_name in part.classes:
                stage.bring_up_to_date(class_name)
            if isinstance(stage, Maps):
                stage.forget()
        return len(part.classes)


def parts(study: OpenStudy) -> list[Part]:
    """All parts of a study, those first that take longest: a detector that is trained on all classes."""
    each = tuple((class_name,) for class_name in study.classes())
    joint = [Part(family, tuple(study.classes())) for family in families_of(study) if family[0] in TOGETHER]
    return joint + [
        Part(family, classes) for family in (SIMILARITIES, *families_of(study)) if family[0] not in TOGETHER for classes in each
    ]


def run_passes(study: OpenStudy, engine: Callable[[Any, Iterator[Any]], Iterator[int]], progress: bool = False) -> None:
    """Bring the files of the stages ``similarities`` and ``maps`` up to date on an engine; they are the bytes that the stages would write
    with as many threads as its workers have.

    Args:
        study: Its manifest must be there, and the project's folder be seen by every worker.
        engine: `nandlib.streaming.cluster.Cluster`, or `nandlib.streaming.here.Here`.
        progress: Show a progress bar.
    """
    todo = parts(study)
    with tqdm(total=sum(len(part.classes) for part in todo), desc="passes", unit="class", disable=not progress) as bar:
        for done in engine(Passes(study.root, study.name), iter(todo)):
            bar.update(done)
