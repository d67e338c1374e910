"""APRIL-GAN's model at a small size with random weights: shapes, order of operations, checkpoints."""

import numpy as np
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import save_file

from nandlib.errors import ModelError
from nandlib.models.clip import ClipModel, Projections, load_projections


@pytest.fixture(scope="module")
def clip_model():
    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=24, width=64, head_width=64, patch_size=14, image_size=70)
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=32, heads=1, layers=2)
    model = ClipModel(CLIP(48, vision, text), Projections(64, 48), SimpleTokenizer())
    model.image_size = 70
    return model


def test_tokens_are_projected_residual_streams_without_cls(clip_model):
    batch = torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(1))
    features = clip_model.encode_image(batch)
    assert features.tokens.shape == (2, 4, 25, 48)
    assert features.grid == (5, 5)
    outputs = {}
    handles = [
        block.register_forward_hook(lambda _m, _i, out, k=k: outputs.__setitem__(k, out))
        for k, block in enumerate(clip_model.clip.visual.transformer.resblocks)
    ]
    with torch.no_grad():
        clip_model.clip.encode_image(batch)
    for handle in handles:
        handle.remove()
    for layer, block in enumerate((6, 12, 18, 24)):
        raw = clip_model.projections.fc[layer](outputs[block - 1][:, 1:])
        assert torch.allclose(features.tokens[:, layer], raw / raw.norm(dim=-1, keepdim=True), atol=1e-5)


def test_image_features_have_unit_norm_and_texts_have_not(clip_model):
    assert clip_model.encode_text(["a photo", "b"]).shape == (2, 48)
    image = Image.fromarray(np.zeros((30, 50, 3), np.uint8))
    features = clip_model.encode_image(clip_model.preprocess(image)[None])
    assert features.image.norm().item() == pytest.approx(1, abs=1e-5)


def test_official_checkpoint_layout_and_safetensors(tmp_path):
    projections = Projections(64, 48)
    torch.save({"trainable_linearlayer": projections.state_dict()}, tmp_path / "visa_pretrained.pth")
    save_file(projections.state_dict(), tmp_path / "p.safetensors")
    for name in ("visa_pretrained.pth", "p.safetensors"):
        loaded = load_projections(tmp_path / name, 64, 48)
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), projections.parameters(), strict=True))
    with pytest.raises(ModelError, match=r"does not hold projections 1024 → 768"):
        load_projections(tmp_path / "p.safetensors")
    with pytest.raises(ModelError, match=r"none.pth is missing: 'nand doctor' says"):
        load_projections(tmp_path / "none.pth")
