"""A study on disk: its preset, its folders, and the frames that its stages have written."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from nandlib.data.groups import Grouping, load_grouping
from nandlib.data.manifest import read_manifest
from nandlib.errors import DataError, PresetError, nearest
from nandlib.method.prompts import PromptSet, load_prompts
from nandlib.settings import RANDOM, Section
from nandlib.study.frames import SCORES, read_parquet, read_table, write_scores
from nandlib.study.place import Place
from nandlib.study.preset import Study, load_study

S = TypeVar("S", bound=Section)
KSHOT_TABLES = ("kshot", "summary", "intervals", "worth", "a2n", "masks", "detectors")
ON_DEMAND = ("kshot", "robustness", "sensitivity")  # stages of studies/on_demand/dvc.yaml whose tables are read here


def project_root(start: Path | None = None) -> Path:
    """The folder with ``dvc.yaml`` at or above `start` (default: the working directory).

    Raises:
        PresetError: If there is none.
    """
    start = (start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise PresetError(f"{start} is not inside a checkout of the study: no dvc.yaml at or above it")


class OpenStudy(Place[Study]):
    """A preset together with the project it belongs to; every path of the study is named here, once."""

    @property
    def states(self) -> Path:
        """Folder of the trained detectors' states: ``<detector>.safetensors``, or ``<detector>_<class>.safetensors`` of each class."""
        return self.data / "maps" / "states"

    @property
    def images(self) -> Path:
        """Root of the images, MVTec AD layout."""
        return self.root / self.config.data.root

    def resolve(self, path: Path) -> Path:
        """A path of the preset; `RANDOM` stays what it is."""
        return path if path == RANDOM else self.root / path

    def resolved(self, settings: S) -> S:
        """Settings whose files of weights are paths from here (`resolve`)."""
        named = {key: getattr(settings, key) for key in settings.weight_fields}
        return settings.model_copy(update={key: self.resolve(path) for key, path in named.items() if path is not None})

    @property
    def watermark(self) -> str:
        """What every output must say: nothing, or that the weights are random."""
        return "RANDOM WEIGHTS" if self.config.random else ""

    @property
    def compared(self) -> bool:
        """Whether the study has the paper's classes and groups, so that its numbers stand beside the paper's."""
        return self.config.data.groups == "mvtec_ad"

    def write_csv(self, table: pd.DataFrame, name: str) -> None:
        """Write a table of results to the study's figures."""
        (self.figures / name).parent.mkdir(parents=True, exist_ok=True)
        marked = table.assign(weights="random") if self.config.random else table
        marked.to_csv(self.figures / name, index=False)

    def write_scores(self, scores: pd.DataFrame, name: str) -> None:
        """Write image scores to the study's figures: all that tables are made of, so that they can be made again without images."""
        write_scores(scores, self.figures / name)

    def write_text(self, text: str, name: str) -> None:
        """Write a Markdown table of results to the study's figures."""
        head = f"**{self.watermark}: NOT A RESULT**\n\n" if self.watermark else ""
        (self.figures / name).write_text(head + text)

    @cached_property
    def manifest(self) -> pd.DataFrame:
        return read_manifest(_existing(self.data / "manifest.csv", "manifest"))

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Image scores before and after, schema `nandlib.study.frames.SCORES`."""
        return SCORES.validate(read_parquet(_existing(self.data / "scores.parquet", "scores")))

    @cached_property
    def deltas(self) -> pd.DataFrame:
        """AUROC before and after per detector, class and group."""
        return read_table(_existing(self.figures / "deltas.csv", "protocol"))

    @cached_property
    def detectors(self) -> pd.DataFrame:
        """Means over classes of every detector, with the others alone, share of the gap that is closed, intervals and tests."""
        return read_table(_existing(self.figures / "detectors.csv", "protocol"))

    @cached_property
    def origins(self) -> pd.DataFrame:
        """Means of every detector over the groups of one origin (`nandlib.evaluation.origin`)."""
        return read_table(_existing(self.figures / "origins.csv", "protocol"))

    @cached_property
    def plus_origins(self) -> pd.DataFrame:
        """The same of every step of the ablation."""
        return read_table(_existing(self.figures / "plus/origins.csv", "ablation"))

    @cached_property
    def base_auroc(self) -> pd.DataFrame:
        return read_table(_existing(self.figures / "base_auroc.csv", "protocol"))

    @cached_property
    def metrics(self) -> dict[str, Any]:
        return json.loads(_existing(self.figures / "metrics.json", "protocol").read_text())

    def measure(self, name: str) -> pd.DataFrame:
        """One of the tables of the stage ``measure``: controls, selectivity, retrieval, pixels, decisions or pairs."""
        return read_table(_existing(self.figures / "measure" / f"{name}.csv", "measure"))

    @cached_property
    def ablation(self) -> pd.DataFrame:
        """From the paper's rule to `nand_plus`, step by step (`nandlib.evaluation.ablation`)."""
        return read_table(_existing(self.figures / "plus" / "ablation.csv", "ablation"))

    @property
    def seeds(self) -> pd.DataFrame | None:
        """Mean and spread of the ablation over seeds (`nandlib.evaluation.seeds`); None if they were not run."""
        path = self.figures / "plus" / "seeds.csv"
        return read_table(path) if path.is_file() else None

    @cached_property
    def ablation_groups(self) -> pd.DataFrame:
        """Δ of every group in every step (`nandlib.evaluation.ablation`)."""
        return read_table(_existing(self.figures / "plus" / "ablation_groups.csv", "ablation"))

    @cached_property
    def sensitivity(self) -> pd.DataFrame:
        """Mean Δ AUROC of every value of every choice (`nandlib.evaluation.sensitivity`)."""
        return read_table(_existing(self.figures / "sensitivity" / "sensitivity.csv", "sensitivity"))

    @cached_property
    def robustness(self) -> pd.DataFrame:
        """AUROC and Δ under perturbed test images (`nandlib.evaluation.robustness`)."""
        return read_table(_existing(self.figures / "robustness" / "robustness.csv", "robustness"))

    def kshot(self, name: str) -> pd.DataFrame:
        """A table of the contest of texts and examples (`nandlib.stages.kshot`): kshot, summary, intervals, worth, a2n, masks,
        or one example for every detector (detectors)."""
        if name not in KSHOT_TABLES:
            raise PresetError(f"the contest has no table '{name}': {nearest(name, KSHOT_TABLES)}")
        return read_table(_existing(self.figures / "kshot" / f"{name}.csv", "kshot"))

    @cached_property
    def grouping(self) -> Grouping:
        return load_grouping(self.config.data.groups)

    @cached_property
    def prompts(self) -> PromptSet:
        return load_prompts(self.config.prompts)

    def classes(self) -> list[str]:
        """Classes with a protocol: two groups or more."""
        return list(self.test_groups())

    def test_groups(self) -> dict[str, dict[str, list[str]]]:
        """Class → group → types, of the classes with two groups or more, in the grouping's order."""
        test = self.manifest[(self.manifest["split"] == "test") & ~self.manifest["group"].isin(["good", ""])]
        found: dict[str, dict[str, list[str]]] = {}
        for class_name, part in test.groupby("class", sort=True):
            groups = {str(g): sorted(set(p["type"])) for g, p in part.groupby("group", sort=False)}
            if self.grouping.classes is not None:
                groups = {g: t for g, t in self.grouping.classes[str(class_name)].items() if g in groups}
            if len(groups) >= 2:
                found[str(class_name)] = groups
        return found

    def types(self) -> dict[str, list[str]]:
        """Class → anomaly types, from the grouping where it has them, else from the manifest."""
        data = self.config.data
        if self.grouping.classes is not None:
            named = {c: g for c, g in self.grouping.classes.items() if c in (data.classes or [c]) and c not in data.exclude_classes}
            return {c: [t for types in g.values() for t in types if t not in data.exclude_types] for c, g in named.items()}
        return {c: [t for types in g.values() for t in types] for c, g in self.test_groups().items()}

    def example(self) -> tuple[str, str]:
        """Class and added group of Figures 1 to 3: the preset's, or the first of the study.

        Raises:
            PresetError: If the preset names a class or group that the study does not have.
            DataError: If no class has two groups.
        """
        figures, groups = self.config.figures, self.test_groups()
        if not groups:
            raise DataError(f"studies/{self.name}.yaml: no class has two groups or more: no protocol is possible")
        class_name = figures.class_name or next(iter(groups))
        if class_name not in groups:
            raise PresetError(f"studies/{self.name}.yaml: figures.class_name: no class '{class_name}': {nearest(class_name, groups)}")
        group = figures.group or next(iter(groups[class_name]))
        if group not in groups[class_name]:
            raise PresetError(
                f"studies/{self.name}.yaml: figures.group: no group '{group}' of class '{class_name}': {nearest(group, groups[class_name])}"
            )
        return class_name, group

    def rows(self, class_name: str, split: str = "test") -> pd.DataFrame:
        """Manifest rows of one class and split, in manifest order: the order of all its stored maps."""
        m = self.manifest
        return m[(m["class"] == class_name) & (m["split"] == split)].reset_index(drop=True)


def _existing(path: Path, stage: str) -> Path:
    if not path.is_file():
        name = (path.parent if path.parents[1].name in ("data", "figures") else path.parents[1]).name
        asked = f"'nand repro studies/on_demand/dvc.yaml:{stage}@{name}'" if stage in ON_DEMAND else f"'nand study run {name}'"
        raise DataError(f"{path} is missing: run {asked} (stage '{stage}') first")
    return path


def open_study(study: str | Path = "mini", root: Path | None = None) -> OpenStudy:
    """Open a study by name (``studies/<name>.yaml``) or by the path of its preset.

    Raises:
        PresetError: If there is no such preset, or it is not valid.
    """
    root = root or project_root()
    return OpenStudy(root, load_study(preset_path(study, root)))


def preset_path(study: str | Path, root: Path) -> Path:
    """Where the preset lies of a study that is given by its name (with or without ``.yaml``), or by a path from here or from the project's
    folder; whether it is there, `nandlib.study.preset.load_study` says."""
    given = Path(study)
    if given.suffix != ".yaml":
        return root / "studies" / f"{study}.yaml"
    places = [given, root / given] + [root / "studies" / given.name] * (len(given.parts) == 1)
    return next((place for place in places if place.is_file()), places[-1])
