"""A study's passes through networks, some shards of a class and stage at a time, on an engine: the stages then find their files as they
make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from nandlib.detectors.config import TOGETHER
from nandlib.detectors.trained import TRAINED
from nandlib.stages.maps import Maps, clear_maps, families_of
from nandlib.stages.similarities import Similarities, clear_similarities
from nandlib.study.open_study import OpenStudy, open_study
from nandlib.study.store import shards_of

SIMILARITIES = ("similarities",)  # a part that is no family of detectors
AT_ONCE = 16  # shards of a part: a worker fits PatchCore once a class, whatever part of it comes next


@dataclass(frozen=True)
class Part:
    """What one worker does at a time: a family's maps, or the similarities, of some shards of a class; of a whole class where a detector is
    trained on it, of all where one is trained on all."""

    families: tuple[str, ...]
    classes: tuple[str, ...]
    start: int | None = None  # shards
    stop: int | None = None

    @property
    def shards(self) -> slice:
        """Of each class."""
        return slice(self.start, self.stop)


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
                stage.bring_up_to_date(class_name, part.shards)
            if isinstance(stage, Maps):
                stage.forget()
        return len(part.classes)


def parts(study: OpenStudy) -> list[Part]:
    """All parts of a study, those first that take longest: a detector that is trained on all classes."""
    first, rest = list[Part](), list[Part]()
    for family in (SIMILARITIES, *families_of(study)):
        if family[0] in TOGETHER:
            first.append(Part(family, tuple(study.classes())))
        elif family[0] in TRAINED:
            rest += [Part(family, (class_name,)) for class_name in study.classes()]
        else:
            counts = {class_name: len(shards_of(study, class_name)) for class_name in study.classes()}
            rest += [Part(family, (name,), k, k + AT_ONCE) for name, count in counts.items() for k in range(0, count, AT_ONCE)]
    return first + rest


def run_passes(study: OpenStudy, engine: Callable[[Any, Iterator[Any]], Iterator[int]], progress: bool = False) -> None:
    """Bring the files of the stages ``similarities`` and ``maps`` up to date on an engine; they are the bytes that the stages would write
    with as many threads as its workers have.

    Args:
        study: Its manifest must be there, and the project's folder be seen by every worker.
        engine: `nandlib.streaming.cluster.Cluster`, or `nandlib.streaming.here.Here`.
        progress: Show a progress bar.
    """
    clear_similarities(study)
    clear_maps(study)
    todo = parts(study)
    with tqdm(total=sum(len(part.classes) for part in todo), desc="passes", unit="part", disable=not progress) as bar:
        for done in engine(Passes(study.root, study.name), iter(todo)):
            bar.update(done)
