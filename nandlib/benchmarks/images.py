"""Cost of an image: the whole study against a bare pass of the image tower, as a ratio measured in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from nandlib.detectors.aprilgan import anomaly_map
from nandlib.memory import peak_gigabytes
from nandlib.method.detection import suppression_map, text_feature
from nandlib.method.operators import image_score, similarities, suppress
from nandlib.study.images import batches, image_paths
from nandlib.study.model import model_of, placement
from nandlib.study.open_study import OpenStudy


def timed(run: Callable[[], object]) -> float:
    """Seconds that something takes, on a GPU until it has done all of it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


@torch.no_grad()
def image_cost(study: OpenStudy, n_images: int = 2, repeats: int = 3) -> dict[str, Any]:
    """Cost of one image of the study's first class: from its file to its scores before and after every group.

    Bare passes of the image tower alternate with whole ones, on the same images; medians are given. Texts are encoded
    before: a class needs them once.

    Args:
        study: The study; its manifest must be there.
        n_images: Images per pass.
        repeats: Passes of each kind.

    Returns:
        ``bare`` and ``study`` (seconds an image), ``ratio``, ``groups``, ``weights``, ``device``, ``precision``, and ``peak_gb`` of
        this process.
    """
    model, nand, class_name = model_of(study), study.config.nand, study.classes()[0]
    sentences = study.prompts.of_class(class_name, study.test_groups()[class_name])
    texts = torch.stack([text_feature(model, prompts, study.prompts) for prompts in sentences.values()])
    paths = image_paths(study, class_name)[:n_images]
    ready = torch.cat(list(batches(paths, model.preprocess))).to(study.config.model.device)

    def bare() -> None:
        with placement(study).running():
            model.tower(ready.clone())  # the tower remembers the tensor itself

    def whole() -> None:
        for batch in batches(paths, model.preprocess):
            features = model.encode_image(batch)
            cos = similarities(features.tokens, texts)
            common: dict[str, Any] = {"grid": features.grid, "temperature": nand.temperature or model.temperature, "nand": nand}
            before = anomaly_map(cos[:, 1], cos[:, 0], **common)
            image_score(before)
            for k in range(2, cos.shape[1]):
                image_score(suppress(before, suppression_map(cos[:, k], cos[:, 0], cos[:, 1], **common)))

    bare()
    pairs = [(timed(bare), timed(whole)) for _ in range(repeats)]
    return {
        "bare": statistics.median(a for a, _ in pairs) / len(paths),
        "study": statistics.median(b for _, b in pairs) / len(paths),
        "ratio": statistics.median(b / a for a, b in pairs),
        "groups": len(sentences) - 2,
        "weights": "random" if study.config.random else "trained",
        "device": study.config.model.device,
        "precision": placement(study).precision,
        "peak_gb": peak_gigabytes(),
    }
