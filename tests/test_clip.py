"""APRIL-GAN's model at a small size with random weights: shapes, order of operations, checkpoints."""

import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import save_file

from nandlib import add_normality
from nandlib.benchmarks import gpu
from nandlib.detectors.aprilgan import AprilGan
from nandlib.errors import ModelError
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.method.prompts import load_prompts
from nandlib.models.base import Placement, whole_float32
from nandlib.models.clip import ClipModel, Projections, encode_tokens, load_projections, tokens_first
from nandlib.models.precision import MARGIN, measured_precision


@pytest.fixture(scope="module")
def clip_model():
    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=24, width=64, head_width=32, patch_size=14, image_size=70)
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
        raw = clip_model.projections.fc[layer](outputs[block - 1][1:].transpose(0, 1))  # tokens first
        assert torch.allclose(features.tokens[:, layer], raw / raw.norm(dim=-1, keepdim=True), atol=1e-5)


def test_a_detector_and_a_text_share_a_pass(clip_model, monkeypatch):
    """The last batch is remembered, the tensor itself: another one, though equal, takes its own pass, and gives the same."""
    passes, run = [], clip_model.tower.forward_intermediates
    monkeypatch.setattr(clip_model.tower, "forward_intermediates", lambda *a, **k: passes.append(1) or run(*a, **k))
    pictures = [Image.fromarray(np.random.default_rng(k).integers(0, 255, (30, 40, 3), np.uint8)) for k in range(3)]
    prompts = load_prompts(PromptConfig(file="aprilgan"))
    detector = AprilGan(clip_model, prompts, "bottle", references=pictures[:1])
    passes.clear()
    found = add_normality(detector, "dust", model=clip_model, noun="bottle")(pictures)
    assert len(passes) == 1, "of zero- and few-shot map, and of the suppression map"
    batch = torch.stack([clip_model.preprocess(picture) for picture in pictures])
    first, again = clip_model.encode_image(batch), clip_model.encode_image(batch.clone())
    assert len(passes) == 3 and torch.equal(first.tokens, again.tokens)
    for single, picture in zip(found, pictures, strict=True):
        alone = add_normality(detector, "dust", model=clip_model, noun="bottle")([picture])[0]
        np.testing.assert_allclose(single, alone, rtol=1e-4, atol=1e-5)


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


def test_texts_without_padding_have_the_features_of_open_clip(clip_model):
    sentences = ["a", "a photo of a flawless carpet", "a photo of a carpet " + "with a loose thread " * 30]
    for some in (sentences[:2], sentences):  # the last one fills the context
        tokens = clip_model.tokenizer(some)
        expected = clip_model.clip.encode_text(tokens)
        assert torch.allclose(encode_tokens(clip_model.clip, tokens), expected, atol=1e-5)
        assert expected.std(0).max() > 0.01


def test_tokens_first_computes_the_same_without_the_fast_path(clip_model, monkeypatch):
    """Compared with the tower as open_clip runs it, image by image and in a batch."""
    batch = torch.randn(3, 3, 70, 70, generator=torch.Generator().manual_seed(2))
    calls, fast = [], torch._native_multi_head_attention
    monkeypatch.setattr(torch, "_native_multi_head_attention", lambda *a, **k: calls.append(1) or fast(*a, **k))
    tower = tokens_first(copy.deepcopy(clip_model.tower), False)
    with torch.no_grad():
        plain = tower.forward_intermediates(batch, indices=[23], normalize_intermediates=False)
    assert calls, "torch no longer has this fast path"
    calls.clear()
    tokens = clip_model.raw_tokens(batch)[3]
    assert not calls and torch.backends.mha.get_fastpath_enabled() and tokens.is_contiguous()
    assert torch.allclose(tokens.transpose(1, 2).unflatten(2, (5, 5)), plain["image_intermediates"][0], atol=1e-4)
    for image, own in zip(batch, tokens, strict=True):
        assert torch.allclose(clip_model.raw_tokens(image[None])[3][0], own, atol=1e-4)
    with pytest.raises(RuntimeError, match="stop"), Placement().running():
        raise RuntimeError("stop")
    assert torch.backends.mha.get_fastpath_enabled()


def test_settings_of_float32_are_put_back():
    conv, before = torch.backends.cudnn.conv, torch.backends.cudnn.conv.fp32_precision
    for given in ("ieee", "tf32"):
        conv.fp32_precision = given
        try:
            with pytest.raises(KeyError), whole_float32():
                assert conv.fp32_precision == "ieee" and torch.backends.cudnn.deterministic
                raise KeyError
            assert conv.fp32_precision == given and not torch.backends.cudnn.deterministic
        finally:
            conv.fp32_precision = before


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, "autocast"), (2.0, "float32"), (MARGIN, "float32")])
def test_precision_is_chosen_by_what_bfloat16_costs(ratio, expected):
    assert measured_precision("cpu", lambda _device: ratio) == expected


def test_a_compiled_tower_gives_the_same_features(clip_model, monkeypatch):
    """`torch.compile` itself is torch's to test; here it is a wrapper that is seen to be called."""
    calls = []
    monkeypatch.setattr(torch, "compile", lambda run: lambda *a, **k: calls.append(1) or run(*a, **k))
    compiled = ClipModel(clip_model.clip, clip_model.projections, clip_model.tokenizer, Placement(compiled=True))
    batch = torch.randn(1, 3, 70, 70, generator=torch.Generator().manual_seed(3))
    assert torch.equal(compiled.encode_image(batch).tokens, clip_model.encode_image(batch).tokens) and calls == [1]


def test_how_well_a_device_is_filled(clip_model, tmp_path, monkeypatch):
    """The benchmark of `nand apply` at full size, with the small network in its place: every row is a rate, the bare tower's ratio 1."""
    names = [f"{k}.png" for k in range(3)]
    for k, name in enumerate(names):
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (30, 40, 3), np.uint8)).save(tmp_path / name)
    study = SimpleNamespace(
        name="small",
        config=SimpleNamespace(model=SimpleNamespace(name="mini"), nand=NandConfig(map_size=32)),
        prompts=load_prompts(PromptConfig(file="aprilgan")),
        images=tmp_path,
        classes=lambda: ["bottle"],
        rows=lambda *_: pd.DataFrame({"image": names}),
    )
    monkeypatch.setattr(gpu, "model_of", lambda _: clip_model)
    monkeypatch.setattr(ClipModel, "image_size", clip_model.image_size)
    table = gpu.gpu_rates(study, "cpu", images=8, batches=(2, 4))
    assert list(table.columns) == gpu.COLUMNS and list(table["batch"]) == [2] * 6 + [4] * 6
    assert (table["images_s"] > 0).all() and (table.loc[table["what"] == gpu.BARE, "ratio"] == 1).all()
    monkeypatch.setattr(gpu, "model_of", lambda _: "another")
    with pytest.raises(ModelError, match="take mvtec_ad_random"):
        gpu.gpu_rates(study, "cpu")
