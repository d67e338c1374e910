"""Training of APRIL-GAN's projections: its losses against the official code's, its data, and that it learns."""

import json

import numpy as np
import pytest
import torch
from open_clip import get_tokenizer
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from PIL import Image
from regenerated import reference
from typer.testing import CliRunner

from nandlib.cli import app
from nandlib.errors import DataError
from nandlib.method.config import PromptConfig
from nandlib.method.prompts import load_prompts
from nandlib.models.clip import ClipModel, Projections, load_projections
from nandlib.training.projections import MaskedImages, dice_loss, focal_loss, train_projections

REFERENCE = reference("aprilgan_official")


def test_losses_of_the_official_code():
    probabilities = REFERENCE["loss_logits"].softmax(1)
    assert abs(focal_loss(probabilities, REFERENCE["loss_mask"]) - REFERENCE["loss_focal"]).item() < 1e-6
    assert abs(dice_loss(probabilities[:, 1], REFERENCE["loss_mask"]) - REFERENCE["loss_dice"]).item() < 1e-6


def test_a_perfect_map_has_almost_no_loss():
    mask = REFERENCE["loss_mask"]
    perfect = torch.stack([1 - mask, mask], 1)
    assert focal_loss(perfect, mask) < 1e-6
    assert dice_loss(perfect[:, 1], mask) < 1e-2
    assert dice_loss(1 - perfect[:, 1], mask) > 0.9


@pytest.fixture
def clip_model() -> ClipModel:
    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=24, width=64, head_width=64, patch_size=14, image_size=70)
    clip = CLIP(48, vision, CLIPTextCfg(context_length=77, vocab_size=49408, width=32, heads=1, layers=1))
    model = ClipModel(clip, Projections(64, 48), get_tokenizer("ViT-B-32"))
    model.image_size = 70
    return model


@pytest.fixture
def spots(tmp_path):
    """Grey images; the defective ones have a black square, and a mask of it."""
    rng = np.random.default_rng(0)
    for class_name in ("felt", "foil"):
        (tmp_path / class_name / "train" / "good").mkdir(parents=True)
        Image.new("RGB", (70, 70)).save(tmp_path / class_name / "train" / "good" / "0.png")
        for name in ("good", "dark", "low"):
            (tmp_path / class_name / "test" / name).mkdir(parents=True)
            (tmp_path / class_name / "ground_truth" / name).mkdir(parents=True)
            for k in range(3):
                image, mask = rng.normal(170, 10, (70, 70, 3)), np.zeros((70, 70), np.uint8)
                if name != "good":
                    y, x = (14 * rng.integers(0, 4, 2)).tolist()
                    mask[y : y + 14, x : x + 14] = 255
                    image[mask > 0] = 5
                    Image.fromarray(mask).save(tmp_path / class_name / "ground_truth" / name / f"{k}_mask.png")
                Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(tmp_path / class_name / "test" / name / f"{k}.png")
    return tmp_path


def test_every_image_comes_once_with_its_mask(clip_model, spots):
    images = MaskedImages(spots, clip_model)
    seen = 0
    for batch, masks, names in images.epoch(4):
        assert batch.shape[1:] == (3, 70, 70)
        assert len(batch) == len(masks) == len(names)
        dark = batch.mean(1) < 0
        assert ((masks > 0) == dark).float().mean() > 0.999
        seen += len(batch)
    assert seen == 18


def test_a_mosaic_is_four_images_of_the_class_with_their_masks(clip_model, spots):
    images = MaskedImages(spots, clip_model, mosaic=1.0)
    squares = []
    for batch, masks, _ in images.epoch(6):
        assert ((masks > 0) == (batch.mean(1) < 0)).float().mean() > 0.98  # resized edges
        squares += masks.sum((1, 2)).tolist()
    assert max(squares) <= 4 * 49 * 1.3
    assert len({round(s / 49) for s in squares}) > 2


def test_training_learns_and_leaves_clip_alone(clip_model, spots):
    prompts = load_prompts(PromptConfig())
    before = {name: value.clone() for name, value in clip_model.clip.state_dict().items()}
    own = clip_model.projections.fc[0].weight.clone()
    trained, history = train_projections(clip_model, prompts, MaskedImages(spots, clip_model), epochs=12, batch_size=6, progress=False)
    assert history[-1] < 0.7 * history[0]
    assert all(torch.equal(value, before[name]) for name, value in clip_model.clip.state_dict().items())
    assert torch.equal(clip_model.projections.fc[0].weight, own)
    again, same = train_projections(clip_model, prompts, MaskedImages(spots, clip_model), epochs=2, batch_size=6, progress=False)
    assert same == pytest.approx(history[:2], rel=1e-5)
    assert [tuple(p.shape) for p in again.parameters()] == [tuple(p.shape) for p in trained.parameters()]


def test_command_line(clip_model, spots, tmp_path, monkeypatch):
    monkeypatch.setattr(ClipModel, "load", lambda *_: clip_model)
    out = tmp_path / "out" / "own.safetensors"
    result = CliRunner().invoke(app, ["train-projections", str(spots), str(out), "--epochs", "2", "--mosaic", "0.5"])
    assert result.exit_code == 0, result.output
    assert load_projections(out, 64, 48).fc[3].bias.shape == (48,)
    recipe = json.loads(out.with_suffix(".json").read_text())
    assert (recipe["epochs"], recipe["mosaic"], recipe["images"], len(recipe["losses"])) == (2, 0.5, 18, 2)


def test_a_folder_without_masks_is_refused(clip_model, dataset):
    root = dataset(types=())
    with pytest.raises(DataError, match="has no test image with a mask"):
        MaskedImages(root, clip_model)


def test_a_defective_image_without_a_mask_is_refused(clip_model, spots):
    path = next(spots.glob("*/ground_truth/*/*"))
    path.unlink()
    with pytest.raises(DataError, match="1 of 12 defective images have no mask, such as .*: the projections learn from masks"):
        MaskedImages(spots, clip_model)
