"""APRIL-GAN against what the official code computes, for weights that a rule regenerates (see fixtures/README.md).

Each guard then breaks one step on purpose and shows that the comparison notices.
"""

import json
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from open_clip import add_model_config, create_model, get_tokenizer, image_transform
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.transformer import QuickGELU
from PIL import Image
from regenerated import normal, reference, regenerate
from safetensors.torch import save_file
from torch import nn

from nandlib.detectors.aprilgan import anomaly_map
from nandlib.errors import ModelError
from nandlib.method.config import NandConfig, PromptConfig
from nandlib.method.detection import text_feature
from nandlib.method.operators import aggregate_layers, detect, image_score, similarities
from nandlib.method.prompts import load_prompts
from nandlib.models.clip import ARCHITECTURE, BLOCKS, ClipModel, Projections, clip_input, encode_tokens, load_clip
from nandlib.models.last import LastAnswer
from nandlib.settings import RANDOM

REFERENCE = reference("aprilgan_official")
SENTENCES = ["a photo of the broken metal_nut.", "there is a {} in the scene.", "A Bad photo of a damaged pipe_fryum", "carpet"]
SENTENCES += ["x " * 100, "capsule with poke & scratch, 50% &amp; <b>"]
NAND = NandConfig(map_size=518)


def build(embed_dim: int, vision_width: int, text_width: int, heads: int, quick_gelu: bool = False) -> ClipModel:
    vision = CLIPVisionCfg(layers=24, width=vision_width, head_width=64, patch_size=14, image_size=518)
    text = CLIPTextCfg(context_length=77, vocab_size=49408, width=text_width, heads=heads, layers=12)
    clip = regenerate(CLIP(embed_dim, vision, text, quick_gelu=quick_gelu))
    return ClipModel(clip, regenerate(Projections(vision_width, embed_dim)), get_tokenizer(ARCHITECTURE))


@pytest.fixture(scope="module")
def small() -> ClipModel:
    return build(64, 128, 64, 1)


@pytest.fixture(scope="module")
def batch() -> torch.Tensor:
    return torch.from_numpy(normal(7, (1, 3, 518, 518)))


@pytest.fixture(scope="module")
def cosines(small, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines of the abnormal and the normal text of metal_nut."""
    texts = REFERENCE["small_text_metal_nut"].T.flip(0)
    return similarities(small.encode_image(batch).tokens, texts).unbind(1)


def check_tokens(tokens: list[torch.Tensor], size: str, tolerance: float = 1e-4) -> None:
    """Raw tokens after each block: every 97th of the official ones, whose first is CLS."""
    for block, raw in zip(BLOCKS, tokens, strict=True):
        expected = REFERENCE[f"{size}_tokens_block{block}"]
        places = [97 * k - 1 for k in range(1, len(expected))]  # ours come without CLS
        assert (raw[0, places] - expected[1:]).abs().max() < tolerance


def check_image(image: torch.Tensor, text_pair: torch.Tensor, size: str, tolerance: float = 1e-4) -> None:
    """The image's feature, and its probabilities of the normal and the abnormal text."""
    expected = F.normalize(REFERENCE[f"{size}_image_feature"], dim=-1)
    assert (image[0] - expected).abs().max() < tolerance
    assert ((100 * image @ text_pair).softmax(-1)[0] - REFERENCE[f"{size}_image_prob"]).abs().max() < tolerance


def check_map(layers: torch.Tensor, whole: torch.Tensor, size: str, tolerance: float = 1e-4) -> None:
    """The map of each layer, their sum, and its maximum."""
    for k in range(4):
        assert (layers[0, k, ::7, ::7] - REFERENCE[f"{size}_map_layer{k}"]).abs().max() < tolerance
    assert (whole[0, ::7, ::7] - REFERENCE[f"{size}_map"]).abs().max() < tolerance
    assert abs(image_score(whole) - REFERENCE[f"{size}_map_max"]).item() < tolerance


def layer_maps(abnormal: torch.Tensor, normal_: torch.Tensor, **change: object) -> torch.Tensor:
    return detect(abnormal, [normal_], **({"grid": (37, 37), "size": (518, 518), "temperature": 100.0} | change))


def test_reduced_size(small, batch, cosines):
    check_tokens(small.raw_tokens(batch), "small")
    check_image(small.encode_image(batch).image, REFERENCE["small_text_metal_nut"], "small")
    check_map(layer_maps(*cosines), anomaly_map(*cosines, grid=(37, 37), temperature=100.0, nand=NAND), "small")


def test_text(small):
    tokens, expected = small.tokenizer(SENTENCES), REFERENCE["small_text_features"]
    assert torch.equal(tokens, REFERENCE["token_ids"])
    assert (encode_tokens(small.clip, tokens) - expected).abs().max() < 1e-4
    whole = [k for k, ids in enumerate(tokens) if not ids[-1]]  # the official code cuts others off, which are refused here
    assert (small.encode_text([SENTENCES[k] for k in whole]) - expected[whole]).abs().max() < 1e-4 and len(whole) == len(SENTENCES) - 1
    prompts = load_prompts(PromptConfig())
    for class_name, expected in (("metal_nut", REFERENCE["small_text_metal_nut"]), ("carpet", REFERENCE["small_text_carpet"])):
        assert (len(prompts.normal(class_name)), len(prompts.abnormal(class_name))) == (245, 175)
        pair = [text_feature(small, sentences, prompts) for sentences in (prompts.normal(class_name), prompts.abnormal(class_name))]
        assert (torch.stack(pair, 1) - expected).abs().max() < 1e-5


def test_full_size(batch):
    """ViT-L/14 at 518 px: about 20 s and 3 GB on two cores."""
    model = build(768, 1024, 768, 12)
    check_tokens(model.raw_tokens(batch), "full")
    features = model.encode_image(batch)
    check_image(features.image, REFERENCE["full_text_pair"], "full")
    cosines = similarities(features.tokens, REFERENCE["full_text_pair"].T.flip(0)).unbind(1)
    check_map(layer_maps(*cosines), anomaly_map(*cosines, grid=(37, 37), temperature=100.0, nand=NAND), "full")


MUTATIONS = {
    "align_corners=False": {"align_corners": False},
    "softmax before interpolation": {"resize": "probabilities"},
    "temperature 1/0.07": {"temperature": 1 / 0.07},
}


@pytest.mark.parametrize("change", MUTATIONS.values(), ids=MUTATIONS)
def test_guard_map(cosines, change):
    maps = layer_maps(*cosines, **change)
    with pytest.raises(AssertionError):
        check_map(maps, aggregate_layers(maps, "sum"), "small")


def test_guard_sum_and_mean(cosines):
    maps = layer_maps(*cosines)
    check_map(maps, aggregate_layers(maps, "sum"), "small")
    with pytest.raises(AssertionError):
        check_map(maps, aggregate_layers(maps, "mean"), "small")


def test_guard_texts_exchanged(cosines):
    maps = layer_maps(*reversed(cosines))
    with pytest.raises(AssertionError):
        check_map(maps, aggregate_layers(maps, "sum"), "small")


def test_guard_quick_gelu(batch):
    model = build(64, 128, 64, 1, quick_gelu=True)
    assert any(isinstance(m, QuickGELU) for m in model.clip.modules())
    with pytest.raises(AssertionError):
        check_tokens(model.raw_tokens(batch), "small")


def with_cls(function):
    """`forward_intermediates` with the class token in place of the first patch."""

    def mutated(*args, **kwargs):
        output = function(*args, **kwargs, output_extra_tokens=True)
        pairs = zip(output["image_intermediates_prefix"], output["image_intermediates"], strict=True)
        output["image_intermediates"] = [torch.cat((prefix, tokens), 1)[:, :-1] for prefix, tokens in pairs]
        return output

    return mutated


def after_ln_post(function):
    def mutated(*args, **kwargs):
        return function(*args, **(kwargs | {"normalize_intermediates": True}))

    return mutated


@pytest.fixture
def mutated_tower(small, monkeypatch) -> Iterator:
    def mutate(change) -> None:
        monkeypatch.setattr(small, "_last", LastAnswer())  # the pass of a batch that it has seen, whole
        monkeypatch.setattr(small.clip.visual, "forward_intermediates", change(small.clip.visual.forward_intermediates), raising=False)

    return mutate


@pytest.mark.parametrize("change", [with_cls, after_ln_post])
def test_guard_tokens(small, batch, mutated_tower, change):
    mutated_tower(change)
    with pytest.raises(AssertionError):
        check_tokens(small.raw_tokens(batch), "small")
    texts = REFERENCE["small_text_metal_nut"].T.flip(0)
    maps = layer_maps(*similarities(small.encode_image(batch).tokens, texts).unbind(1))
    with pytest.raises(AssertionError):
        check_map(maps, aggregate_layers(maps, "sum"), "small")


def test_guard_text_average(small):
    prompts = load_prompts(PromptConfig(average="raw_mean"))
    feature = text_feature(small, prompts.normal("metal_nut"), prompts)
    assert (feature - REFERENCE["small_text_metal_nut"][:, 0]).abs().max() > 1e-5


def test_architecture_of_the_paper():
    """open_clip's own configuration at 518 px: the names of all 446 weights, plain GELU, 37 x 37 positions."""
    model = load_clip(ARCHITECTURE, RANDOM, force_image_size=518)
    with torch.device("meta"):
        vision = CLIPVisionCfg(layers=24, width=1024, head_width=64, patch_size=14, image_size=518)
        ours = CLIP(768, vision, CLIPTextCfg(context_length=77, vocab_size=49408, width=768, heads=12, layers=12))
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    assert shapes == {name: tuple(t.shape) for name, t in ours.state_dict().items()}
    assert len(shapes) == 446
    assert shapes["visual.positional_embedding"] == (1 + 37 * 37, 1024)
    assert {type(m) for m in model.modules() if "GELU" in type(m).__name__} == {nn.GELU}


def test_weights_from_a_file_at_another_size(tmp_path):
    """As OpenAI's at 336 px: positions resized to 518 px, everything else as it is, plain GELU."""
    vision = {"layers": 24, "width": 128, "head_width": 64, "patch_size": 14, "image_size": 336}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    (tmp_path / "reduced-336.json").write_text(json.dumps({"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}))
    add_model_config(tmp_path / "reduced-336.json")
    state = regenerate(create_model("reduced-336", pretrained=None)).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    model = load_clip("reduced-336", tmp_path / "w.safetensors", force_image_size=518)
    position = "visual.positional_embedding"
    for name, value in model.state_dict().items():
        assert name == position or torch.equal(value, state[name]), name
    grid = state[position][1:].T.reshape(1, 128, 24, 24)
    plain = F.interpolate(grid, size=(37, 37), mode="bicubic", antialias=True, align_corners=False).flatten(2)[0].T
    assert (model.state_dict()[position][1:] - plain).abs().max() < 1e-6
    assert torch.equal(model.state_dict()[position][:1], state[position][:1])
    assert {type(m) for m in model.modules() if "GELU" in type(m).__name__} == {nn.GELU}
    with pytest.raises(ModelError, match="does not hold the weights of CLIP ViT-B-32"):
        load_clip("ViT-B-32", tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="none.safetensors is missing"):
        load_clip("reduced-336", tmp_path / "none.safetensors")


@pytest.mark.parametrize("size", [(900, 900), (300, 300), (700, 1024)])
def test_preprocessing_is_a_squash_to_518(size):
    pixels = (normal(3, (size[1], size[0], 3)) * 60 + 120).clip(0, 255).astype("uint8")
    image = Image.fromarray(pixels)
    transform = image_transform(518, is_train=False, resize_mode="squash", interpolation="bicubic")
    assert (clip_input(image, 518) - transform(image)).abs().max() < 1e-6
