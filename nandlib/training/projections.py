"""Training of APRIL-GAN's projections: CLIP stays frozen, four linear layers learn on defects of another data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from nandlib.data.config import DataConfig
from nandlib.data.groups import Grouping
from nandlib.data.images import load_image, load_mask
from nandlib.data.manifest import build_manifest
from nandlib.errors import DataError
from nandlib.method.detection import text_feature
from nandlib.method.prompts import PromptSet
from nandlib.models.base import own_randomness
from nandlib.models.checkpoints import refuse_infinite
from nandlib.models.clip import ClipModel, Projections

EPSILON = 1e-5  # of the focal loss


def focal_loss(probabilities: Tensor, mask: Tensor) -> Tensor:
    """Mean over pixels of ``-(1 - p_t)² log p_t``, the focal loss with γ = 2 and smoothed labels.

    Args:
        probabilities: ``(N, 2, H, W)``, channels normal and abnormal.
        mask: ``(N, H, W)``, 1 where abnormal, else 0.
    """
    labels = torch.stack([1 - mask, mask], 1).clamp(EPSILON, 1 - EPSILON)
    p = (labels * probabilities).sum(1) + EPSILON
    return -((1 - p).square() * p.log()).mean()


def dice_loss(probability: Tensor, mask: Tensor) -> Tensor:
    """``1 - mean_n (2 Σ p g + 1) / (Σ p + Σ g + 1)`` of abnormal probabilities and masks, each ``(N, H, W)``."""
    p, g = probability.flatten(1), mask.flatten(1)
    return 1 - ((2 * (p * g).sum(1) + 1) / (p.sum(1) + g.sum(1) + 1)).mean()


class MaskedImages:
    """Test images of a folder in MVTec AD layout with their masks, in random order.

    Args:
        root: The folder; every class's ``test`` is used, good images with an empty mask.
        model: Preprocesses the images.
        mosaic: Probability that an image is replaced by a mosaic of 2 x 2 of its class, each of a random type.
        seed: Of order and mosaics.

    Raises:
        DataError: If the folder has no test images, no masks, or a defective image without one: it would be learnt as normal.
    """

    def __init__(self, root: Path, model: ClipModel, mosaic: float = 0.0, seed: int = 0) -> None:
        manifest, _ = build_manifest(root, DataConfig(root=root), Grouping("types", None), progress=False)
        self.root, self.model, self.mosaic, self.rng = root, model, mosaic, np.random.default_rng(seed)
        self.rows: pd.DataFrame = manifest[manifest["split"] == "test"].reset_index(drop=True)
        if not (self.rows["mask_area"] > 0).any():
            raise DataError(f"{root} has no test image with a mask: the projections learn from masks")
        defective = self.rows[self.rows["type"] != "good"]
        missing = defective.loc[defective["mask"] == "", "image"]
        if len(missing):
            raise DataError(
                f"{root}: {len(missing)} of {len(defective)} defective images have no mask, such as {missing.iloc[0]}: the projections "
                f"learn from masks; put them into ground_truth, or take these images out"
            )

    def epoch(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        """Every image once: inputs ``(n, 3, S, S)``, masks ``(n, S, S)`` of 0 and 1, class names."""
        order = self.rng.permutation(len(self.rows))
        for start in range(0, len(order), batch_size):
            part = [self.rows.iloc[k] for k in order[start : start + batch_size]]
            images, masks = zip(*(self._sample(row) for row in part), strict=True)
            yield torch.stack(images), torch.stack(masks), [row["class"] for row in part]

    def _sample(self, row: pd.Series) -> tuple[Tensor, Tensor]:
        image, mask = self._mosaic(row["class"]) if self.rng.random() < self.mosaic else self._load(row)
        side = self.model.image_size
        resized = np.asarray(mask.resize((side, side), Image.Resampling.BILINEAR), np.float32)
        return self.model.preprocess(image), torch.from_numpy(resized > 127.5).float()

    def _load(self, row: pd.Series) -> tuple[Image.Image, Image.Image]:
        image = load_image(self.root / row["image"])
        inside = load_mask(self.root / row["mask"]) if row["mask"] else np.zeros(image.size[::-1], bool)
        return image, Image.fromarray(inside.astype(np.uint8) * 255)

    def _mosaic(self, class_name: str) -> tuple[Image.Image, Image.Image]:
        own = self.rows[self.rows["class"] == class_name]
        types = [part for _, part in own.groupby("type")]
        choices = [types[self.rng.integers(len(types))] for _ in range(4)]
        tiles = [self._load(part.iloc[self.rng.integers(len(part))]) for part in choices]
        width, height = tiles[0][0].size
        image, mask = Image.new("RGB", (2 * width, 2 * height)), Image.new("L", (2 * width, 2 * height))
        for k, (tile, inside) in enumerate(tiles):
            place = (k % 2 * width, k // 2 * height)
            image.paste(tile.resize((width, height)), place)
            mask.paste(inside.resize((width, height), Image.Resampling.NEAREST), place)
        return image, mask


def train_projections(
    model: ClipModel,
    prompts: PromptSet,
    images: MaskedImages,
    *,
    epochs: int,
    batch_size: int = 8,
    learning_rate: float = 1e-3,
    seed: int = 0,
    progress: bool = True,
) -> tuple[Projections, list[float]]:
    """Train new projections for a frozen CLIP, as APRIL-GAN does; the last epoch counts.

    The loss is the sum over layers of `focal_loss` and `dice_loss` of Eq. 4's softmax at the input's resolution.

    Args:
        model: CLIP; its own projections are not used.
        prompts: Normal and abnormal states.
        images: Defects of a data set that is not tested on.
        epochs: 15 on VisA, 3 on MVTec AD in the original.
        batch_size, learning_rate: Of Adam with betas (0.5, 0.999).
        seed: Of the initialisation.
        progress: Show a progress bar.

    Returns:
        The projections, and the mean loss of every epoch.
    """
    device = model.placement.device
    texts = {
        name: torch.stack([text_feature(model, s, prompts) for s in (prompts.normal(name), prompts.abnormal(name))])
        for name in sorted(set(images.rows["class"]))
    }
    layers = model.projections.fc
    assert isinstance(layers[0], nn.Linear)  # as all of them
    with own_randomness():
        torch.manual_seed(seed)
        projections = Projections(layers[0].in_features, layers[0].out_features, len(layers)).to(device)
    optimiser = torch.optim.Adam(projections.parameters(), lr=learning_rate, betas=(0.5, 0.999))
    history = []
    for epoch in range(epochs):
        losses = []
        steps = -(-len(images.rows) // batch_size)
        for batch, masks, names in tqdm(
            images.epoch(batch_size), total=steps, desc=f"projections, epoch {epoch + 1} of {epochs}", disable=not progress
        ):
            loss = _loss(model, projections, batch, masks.to(device), torch.stack([texts[name] for name in names]).to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        history.append(float(np.mean(losses)))
    refuse_infinite(projections.state_dict(), f"projections that were trained at a rate of {learning_rate:g}")
    return projections.cpu(), history


def _loss(model: ClipModel, projections: Projections, batch: Tensor, masks: Tensor, texts: Tensor) -> Tensor:
    """Of preprocessed images with masks ``(N, H, W)`` and the two states of their class ``(N, 2, D)``, on the model's device."""
    tokens = projections([layer.to(masks.device) for layer in model.raw_tokens(batch)])
    logits = model.temperature * torch.einsum("nlpd,nkd->lnkp", tokens, texts)
    loss, size = torch.zeros((), device=masks.device), (model.image_size, model.image_size)
    for layer in logits.unflatten(-1, model.tower.grid_size):
        probabilities = F.interpolate(layer, size=size, mode="bilinear", align_corners=True).softmax(1)
        loss = loss + focal_loss(probabilities, masks) + dice_loss(probabilities[:, 1], masks)
    return loss
