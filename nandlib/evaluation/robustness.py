"""Under bad light: what detectors find, and what a text gains, when the tested images are worse than the training images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.data.batch import in_batches
from nandlib.data.images import load_image
from nandlib.detectors.base import TorchDetector
from nandlib.errors import DataError
from nandlib.evaluation.perturbations import PERTURBATIONS, STRENGTHS, perturbed
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.scope import refuse_other_scores
from nandlib.method.batches import BATCH
from nandlib.method.normality import add_normality
from nandlib.method.operators import resize_map, suppress
from nandlib.models import VisionLanguageModel
from nandlib.study.fitted import fitted_detectors
from nandlib.study.images import image_paths
from nandlib.study.model import model_of
from nandlib.study.open_study import OpenStudy

MOST = 10  # images of every group and of good ones
COLUMNS = ["perturbation", "strength", "detector", "auroc", "auroc_before", "auroc_after", "delta", "n_images", "n_scores"]


def robustness(study: OpenStudy, classes: Sequence[str] = (), most: int = MOST, progress: bool = True) -> pd.DataFrame:
    """`COLUMNS`, a row a perturbation, strength (0: none) and detector: mean over classes of the ordinary image AUROC, and mean over the
    groups of the AUROC before and after their texts are added (percent), of the same images; ``n_scores``, how many different scores they
    have before: with one for all, as where a map saturates, AUROC is 50 by ties.

    Only the tested images are perturbed. The first `most` images of every group take part, by name.

    Args:
        study: Whose maps have been computed; trained detectors are read from their states.
        classes: Which of them; default: all.
        most: Images of every group.
        progress: Show a bar.

    Raises:
        DataError: If the study's rule is not the paper's, for A_sup must be the same for all detectors here, or its scores are no maxima.
    """
    if study.config.nand.method != "nand":
        raise DataError(f"studies/{study.name}.yaml: nand.method is '{study.config.nand.method}': robustness is measured by 'nand'")
    refuse_other_scores(study, "robustness")
    chosen, conditions = list(classes) or study.classes(), [(name, strength) for name in PERTURBATIONS for strength in STRENGTHS]
    rows, model = list[tuple[object, ...]](), model_of(study)
    bar = tqdm(total=len(chosen) * (len(conditions) + 1), desc="conditions", disable=not progress)
    for class_name in chosen:
        one = _Class(study, class_name, most, model)
        clean = list(one.rows("", 0))
        rows += [(name, 0, *row) for name in PERTURBATIONS for row in clean]
        bar.update()
        for name, strength in conditions:
            rows += [(name, strength, *row) for row in one.rows(name, strength)]
            bar.update()
    bar.close()
    table = pd.DataFrame(rows, columns=[*COLUMNS[:6], *COLUMNS[7:]])
    found = table.groupby(["perturbation", "strength", "detector"], sort=False).agg(
        {"auroc": "mean", "auroc_before": "mean", "auroc_after": "mean", "n_images": "sum", "n_scores": "sum"}
    )
    return found.assign(delta=found["auroc_after"] - found["auroc_before"]).reset_index()[COLUMNS]


class _Class:
    """Detectors and test images of one class."""

    def __init__(self, study: OpenStudy, class_name: str, most: int, model: VisionLanguageModel) -> None:
        self.study, self.class_name = study, class_name
        groups, paths = study.rows(class_name)["group"].to_numpy(), image_paths(study, class_name)
        kept = np.sort(np.concatenate([np.flatnonzero(groups == group)[:most] for group in dict.fromkeys(groups)]))
        self.groups, self.images = groups[kept], [load_image(paths[k]) for k in kept]
        self.detectors: dict[str, TorchDetector] = {
            name: fitted_detectors(study, name, model, [class_name])[class_name] for name in study.config.detectors
        }
        kinds = study.test_groups()[class_name]
        adapted = None
        for group, types in kinds.items():
            phrases = study.prompts.group_phrases(class_name, group, types)
            if adapted is None:
                first = next(iter(self.detectors.values()))
                adapted = add_normality(
                    first, phrases, model=model, noun=class_name, prompts=study.prompts, nand=study.config.nand, name=group
                )
            else:
                adapted = adapted.add(phrases, group)
        assert adapted is not None  # a class of a protocol has groups
        self.adapted = adapted

    def rows(self, name: str, strength: int) -> Iterator[tuple[str, float, float, float, int, int]]:
        """Detector, ordinary AUROC, mean AUROC before and after, how many images, and how many different scores before."""
        images = [perturbed(image, name, strength, k) for k, image in enumerate(self.images)] if strength else self.images
        size, abnormal = (self.study.config.nand.map_size,) * 2, self.groups != "good"
        bases: dict[str, list[Tensor]] = {detector: [] for detector in self.detectors}
        sup: dict[str, list[np.ndarray]] = {group: [] for group in self.adapted.names}
        for batch in in_batches(images, self.adapted.model.preprocess, BATCH):  # one pass of the tower serves all
            for detector, own in self.detectors.items():
                bases[detector].append(resize_map(torch.from_numpy(own(batch)), size))
            for group, maps in self.adapted.suppression_maps(batch).items():  # the same for every detector
                sup[group] += maps
        for detector, parts in bases.items():
            base = torch.cat(parts)
            before, pairs = base.amax((1, 2)).numpy(), list[tuple[float, float]]()
            for group, maps in sup.items():
                label, after = abnormal & (self.groups != group), suppress(base, torch.from_numpy(np.stack(maps)))
                pairs.append((auroc(label, before), auroc(label, after.amax((1, 2)).numpy())))
            first, second = np.mean(pairs, 0)
            yield detector, auroc(abnormal, before), float(first), float(second), len(images), len(np.unique(before))
