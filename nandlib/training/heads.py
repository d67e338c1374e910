"""Training of the embedded model's heads on auxiliary images, from scratch."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from nandlib.children import end_with_parent
from nandlib.data.drawn import auxiliary
from nandlib.memory import keep_freed_memory
from nandlib.method.config import PromptConfig
from nandlib.method.operators import prompt_ensemble
from nandlib.method.prompts import load_prompts
from nandlib.models.base import own_randomness
from nandlib.models.checkpoints import refuse_infinite
from nandlib.models.mini import GRID, LAYER_STARTS, Heads, ImageTower, TextTower, patch_channels, preprocess
from nandlib.training import vocabulary

N_FAMILIES = len(auxiliary.FAMILIES)
CELL = 8  # samples per side of a cell at which labels are counted
FULL_CELL = 0.15  # a cell with less defect area is ignored, one without any is normal
CHUNK = 8  # images per forward pass
MAX_DEFECT, MAX_NORMAL = 20, 30  # patches kept of one image, per family and of the normal surface


@dataclass(frozen=True)
class PatchSet:
    """Tower channels of sampled patches and what they show.

    Attributes:
        channels: ``(n, CHANNELS)`` float16.
        labels: ``(n,)`` index of the family, or `N_FAMILIES` for normal.
        stage_mean, stage_std: ``(768,)`` statistics of all six stages over all pixels of the images.
    """

    channels: Tensor
    labels: Tensor
    stage_mean: Tensor
    stage_std: Tensor


def cell_labels(labels: np.ndarray) -> np.ndarray:
    """Label of each of the GRID² cells ``(GRID * GRID,)``: family index, `N_FAMILIES` (normal) or -1 (ignored).

    The majority family of the cell; a cell with some, but less than `FULL_CELL`, defect area is ignored.
    """
    inside = np.arange(GRID * CELL) * labels.shape[0] // (GRID * CELL)  # nearest pixel of a grid of whole cells
    cells = labels[np.ix_(inside, inside)].reshape(GRID, CELL, GRID, CELL).transpose(0, 2, 1, 3).reshape(GRID**2, -1)
    flat = np.arange(GRID**2)[:, None] * (N_FAMILIES + 1) + cells + 1  # column 0: NORMAL
    counts = np.bincount(flat.ravel(), minlength=GRID**2 * (N_FAMILIES + 1)).reshape(GRID**2, -1)[:, 1:]
    area, family = counts.sum(1) / CELL**2, counts.argmax(1)
    return np.where(area > FULL_CELL, family, np.where(area > 0, -1, N_FAMILIES))


_tower: ImageTower | None = None  # of a worker process


def _start_worker() -> None:
    global _tower
    end_with_parent()
    keep_freed_memory()
    torch.set_num_threads(1)
    _tower = ImageTower()


def _encode(seed: int, drawing: auxiliary.Drawing, indices: range) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sampled patches ``(n, CHANNELS)``, their labels ``(n,)``, and sums of every stage's means and mean squares."""
    assert _tower is not None
    samples = [auxiliary.draw(seed, index, drawing=drawing) for index in indices]
    pictures = [Image.fromarray(np.round(sample.image * 255).astype(np.uint8)) for sample in samples]
    with torch.inference_mode():
        stages = _tower(torch.stack([preprocess(picture) for picture in pictures]))
        channels = patch_channels(stages).half()
    patches, labels = [], []
    for index, sample, image in zip(indices, samples, channels, strict=True):
        cells = cell_labels(sample.labels)
        chosen = _choose(cells, np.random.default_rng([seed, index]))
        patches.append(image.numpy()[chosen])
        labels.append(cells[chosen])
    means = torch.cat([stage.mean((2, 3)).sum(0) for stage in stages]).numpy()
    squares = torch.cat([stage.square().mean((2, 3)).sum(0) for stage in stages]).numpy()
    return np.concatenate(patches), np.concatenate(labels), means, squares


def collect_patches(seed: int, n_images: int, progress: bool = True, drawing: auxiliary.Drawing = "shared") -> PatchSet:
    """Draw the auxiliary images, encode them with the tower and keep a balanced sample of their patches.

    Two processes of one thread each share the work; the result does not depend on how it is shared.
    """
    chunks = [range(start, min(start + CHUNK, n_images)) for start in range(0, n_images, CHUNK)]
    with ProcessPoolExecutor(2, get_context("spawn"), _start_worker) as pool:
        runs = pool.map(_encode, [seed] * len(chunks), [drawing] * len(chunks), chunks)
        parts = list(tqdm(runs, total=len(chunks), desc=f"auxiliary images, by {CHUNK}", disable=not progress))
    patches, labels, means, squares = zip(*parts, strict=True)
    mean = torch.from_numpy(np.sum(means, 0)) / n_images
    std = (torch.from_numpy(np.sum(squares, 0)) / n_images - mean.square()).clamp_min(1e-8).sqrt()
    return PatchSet(torch.from_numpy(np.concatenate(patches)), torch.from_numpy(np.concatenate(labels)), mean, std)


def _choose(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cells of one image to keep: a random sample of each label's, none of the ignored ones."""
    picks = []
    for label in np.unique(labels[labels >= 0]):
        most = MAX_NORMAL if label == N_FAMILIES else MAX_DEFECT
        picks.append(rng.permutation(np.flatnonzero(labels == label))[:most])
    return np.concatenate(picks)


def text_bank(drawing: auxiliary.Drawing = "shared") -> dict[str, list[str]]:
    """Training sentences of every family, of ``"normal"`` and of ``"abnormal"``: the study's templates, other nouns.

    Every phrase stands in all `vocabulary.MENTIONS` (with a noun in turn) and in twelve templates in turn.
    """
    prompts = load_prompts(PromptConfig(file="aprilgan"))
    phrases = vocabulary.training_phrases(disjoint=drawing == "disjoint")
    nouns, mentions, templates = vocabulary.NOUNS, vocabulary.MENTIONS, prompts.templates

    def turn(words: tuple[str, ...], index: int) -> str:
        return words[index % len(words)]

    bank = {
        name: [
            turn(templates, 12 * i + 3 * k).format(turn(mentions, k).format(phrase, noun=turn(nouns, 12 * i + k)))
            for i, phrase in enumerate(phrases[name])
            for k in range(12)
        ]
        for name in auxiliary.FAMILIES
    }
    for name, states in (("normal", prompts.normal_states), ("abnormal", prompts.abnormal_states)):
        bank[name] = [
            turn(templates, 11 * i + 7 * k).format(state.format(noun)) for i, noun in enumerate(nouns) for k, state in enumerate(states)
        ]
    return bank


@own_randomness()
def train_heads(
    patches: PatchSet,
    *,
    seed: int = 0,
    drawing: auxiliary.Drawing = "shared",
    steps: int = 1000,
    batch_size: int = 512,
    max_lr: float = 3e-3,
    weight_decay: float = 1e-4,
    positive_weight: float = 2.0,
    progress: bool = True,
) -> Heads:
    """Train projections, text map and temperature.

    The loss, averaged over layers, is the cross-entropy over the families and normal, plus the binary cross-entropy of
    temperature · (cos_family - cos_normal) for every family, plus the same for abnormal against normal. The
    type-aware terms are what makes normality detection possible: an abnormal/normal loss alone does not.

    Args:
        patches: Sampled patches of the auxiliary images.
        seed: Seed of initialisation and batches; same seed, same machine: same heads.
        drawing: ``disjoint``: without phrases that equal a phrase of a study.
        steps, batch_size, max_lr, weight_decay: AdamW with a one-cycle schedule; `batch_size` defect patches, balanced
            over the families, and as many normal ones a step.
        positive_weight: Weight of the positive label in the per-family binary cross-entropy.
        progress: Show a progress bar.

    Raises:
        ModelError: If the training diverged.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    bank = text_bank(drawing)
    tower = TextTower()
    texts = [tower(bank[name]) for name in (*auxiliary.FAMILIES, "normal", "abnormal")]

    heads = Heads()
    heads.text_mean.copy_(torch.stack([t.mean(0) for t in texts]).mean(0))
    heads.stage_mean.copy_(patches.stage_mean)
    heads.stage_std.copy_(patches.stage_std)

    members = [torch.nonzero(patches.labels == k).flatten().numpy() for k in range(N_FAMILIES + 1)]
    present = [k for k in range(N_FAMILIES) if len(members[k])]
    optimiser = torch.optim.AdamW(heads.parameters(), lr=max_lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=max_lr, total_steps=steps)
    eye = torch.eye(heads.text_map.shape[0])
    weight = torch.tensor(positive_weight)
    for _ in tqdm(range(steps), desc="heads", disable=not progress):
        families = rng.choice(present, batch_size)
        index = np.concatenate([[members[k][rng.integers(len(members[k]))] for k in families], rng.choice(members[-1], batch_size)])
        labels = patches.labels[index]
        text = torch.stack([_ensemble(heads, t, rng) for t in texts])
        loss = _loss(heads, text, patches.channels[index].float(), labels, eye, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    refuse_infinite(heads.state_dict(), f"heads that were trained at rates up to {max_lr:g}")
    return heads


def _loss(heads: Heads, text: Tensor, channels: Tensor, labels: Tensor, eye: Tensor, weight: Tensor) -> Tensor:
    """The loss of `train_heads` for one batch of patches ``(n, CHANNELS)`` and text features ``(families + 2, D)``."""
    temperature = heads.log_temperature.exp()
    family_target = F.one_hot(labels, N_FAMILIES + 1)[:, :N_FAMILIES].float()
    abnormal_target = (labels < N_FAMILIES).float()
    loss = 0.1 * (heads.text_map - eye).square().sum() / len(eye)
    for layer in range(len(LAYER_STARTS)):
        logits = temperature * heads.project(layer, channels) @ text.T
        normal = logits[:, N_FAMILIES : N_FAMILIES + 1]
        terms = (
            F.cross_entropy(logits[:, : N_FAMILIES + 1], labels)
            + F.binary_cross_entropy_with_logits(logits[:, :N_FAMILIES] - normal, family_target, pos_weight=weight)
            + F.binary_cross_entropy_with_logits(logits[:, -1] - normal[:, 0], abnormal_target)
        )
        loss = loss + terms / len(LAYER_STARTS)
    return loss


def _ensemble(heads: Heads, features: Tensor, rng: np.random.Generator) -> Tensor:
    """The mean of one to six random prompts: what a prompt ensemble is at inference."""
    index = rng.integers(len(features), size=rng.integers(1, 7))
    return prompt_ensemble(heads.map_text(features[index]))
