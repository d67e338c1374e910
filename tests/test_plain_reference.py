"""NAND's own step and the protocol once more, in plain loops that share no code with the library.

From cosine similarities to AUROC before and after: bilinear interpolation, softmax, sum and mean of layers, Eq. 6, maximum,
relabelling, pair counting.
"""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from nandlib.evaluation.protocol import delta_table
from nandlib.method.config import NandConfig
from nandlib.study.class_maps import ClassMaps, score_class

GRID, SIDE, LAYERS, TEMPERATURE = 4, 9, 3, 25.0
GROUPS = ["good"] * 4 + ["thread"] * 3 + ["cut"] * 3 + [""] * 2
TEXTS = ["normal", "abnormal", "+thread", "+cut"]


@pytest.fixture(scope="module")
def cos() -> np.ndarray:
    """(image, text, layer, patch)"""
    return np.random.default_rng(5).uniform(-0.2, 0.3, (len(GROUPS), len(TEXTS), LAYERS, GRID * GRID)).astype(np.float32)


def bilinear(plane: list[list[float]], y: int, x: int) -> float:
    """Value at pixel (y, x) of SIDE x SIDE pixels whose corners are the corners of the plane."""
    v, u = y * (GRID - 1) / (SIDE - 1), x * (GRID - 1) / (SIDE - 1)
    top, left = min(int(v), GRID - 2), min(int(u), GRID - 2)
    down, right = v - top, u - left
    return (
        plane[top][left] * (1 - down) * (1 - right)
        + plane[top][left + 1] * (1 - down) * right
        + plane[top + 1][left] * down * (1 - right)
        + plane[top + 1][left + 1] * down * right
    )


def probability_map(cos: np.ndarray, image: int, text: str, layer: int) -> list[list[float]]:
    def plane(name: str) -> list[list[float]]:
        values = [float(c) for c in cos[image, TEXTS.index(name), layer]]
        return [values[GRID * r : GRID * (r + 1)] for r in range(GRID)]

    wanted, normal = plane(text), plane("normal")
    result = []
    for y in range(SIDE):
        row = []
        for x in range(SIDE):
            a, b = math.exp(TEMPERATURE * bilinear(wanted, y, x)), math.exp(TEMPERATURE * bilinear(normal, y, x))
            row.append(a / (a + b))
        result.append(row)
    return result


def final_score(cos: np.ndarray, image: int, added: str | None) -> float:
    abnormal = [probability_map(cos, image, "abnormal", layer) for layer in range(LAYERS)]
    added_maps = [probability_map(cos, image, f"+{added}", layer) for layer in range(LAYERS)] if added else []
    best = -math.inf
    for y in range(SIDE):
        for x in range(SIDE):
            a = sum(m[y][x] for m in abnormal)
            s = sum(m[y][x] for m in added_maps) / LAYERS if added else 0.0
            best = max(best, a * (1 - s))
    return best


def plain_auroc(scores: list[float], added: str) -> float:
    normal = [s for s, g in zip(scores, GROUPS, strict=True) if g in ("good", added)]
    abnormal = [s for s, g in zip(scores, GROUPS, strict=True) if g not in ("good", added)]
    wins = sum((a > n) + 0.5 * (a == n) for a in abnormal for n in normal)
    return 100 * wins / (len(abnormal) * len(normal))


def library(cos: np.ndarray, nand: NandConfig) -> pd.DataFrame:
    maps = ClassMaps("carpet", nand, {"test": torch.from_numpy(cos)}, TEXTS, (GRID, GRID), TEMPERATURE)
    rows = pd.DataFrame({"image": [f"{k}.png" for k in range(len(GROUPS))], "group": GROUPS})
    return score_class(maps, rows, ["aprilgan"])


def test_scores_and_auroc_of_the_library_are_those_of_plain_loops(cos):
    scores = library(cos, NandConfig(map_size=SIDE))
    before = [final_score(cos, k, None) for k in range(len(GROUPS))]
    deltas = delta_table(scores).set_index("group")
    for added in ("thread", "cut"):
        after = [final_score(cos, k, added) for k in range(len(GROUPS))]
        part = scores[scores["added"] == added]
        assert part["before"].tolist() == pytest.approx(before, rel=1e-5)
        assert part["after"].tolist() == pytest.approx(after, rel=1e-5)
        assert deltas.loc[added, "auroc_before"] == pytest.approx(plain_auroc(before, added))
        assert deltas.loc[added, "auroc_after"] == pytest.approx(plain_auroc(after, added))


@pytest.mark.parametrize(
    "nand",
    [
        NandConfig(map_size=SIDE, align_corners=False),
        NandConfig(map_size=SIDE, resize="probabilities"),
        NandConfig(map_size=SIDE, layer_aggregation="max"),
        NandConfig(map_size=SIDE, softmax_against=("abnormal",)),
        NandConfig(map_size=SIDE, temperature=1.0),
    ],
)
def test_another_choice_is_noticed(cos, nand):
    after = [final_score(cos, k, "thread") for k in range(len(GROUPS))]
    scores = library(cos, nand)
    assert scores[scores["added"] == "thread"]["after"].tolist() != pytest.approx(after, rel=1e-3)
