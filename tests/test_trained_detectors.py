"""The trained detectors as detectors: trained, kept, resumed, asked, and refused what they cannot do."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file

from nandlib import add_normality, fit_detector, load_model
from nandlib.detectors.backbones import EfficientNetB4, published_backbone
from nandlib.detectors.config import FaderConfig, HetNetConfig, OneNipConfig, PbasConfig, PradotConfig, UniAdConfig
from nandlib.detectors.onenip import OneNip
from nandlib.detectors.pbas import Pbas
from nandlib.detectors.pradot import Pradot, _Prototypes
from nandlib.detectors.synthesis import synthetic_image
from nandlib.detectors.trained import TRAINED
from nandlib.detectors.training import Run
from nandlib.detectors.uniad import UniAd
from nandlib.errors import DataError, ModelError
from nandlib.settings import RANDOM

SIDE = 96
SMALL = {"width": 32, "heads": 2, "feedforward": 32, "layers": (1, 1), "window": (5, 5), "epochs": 4, "batch_size": 3}
CONFIGS = {
    "uniad": UniAdConfig(**SMALL),
    "onenip": OneNipConfig(**SMALL, refiner=8, versions=1),
    "pbas": PbasConfig(width=32, hidden=16, epochs=8, stages=(3, 4), batch_size=3),
    "pradot": PradotConfig(epochs=6, batch_size=3, stages=(3,), per_cell=0.5),
    "hetnet_style": HetNetConfig(epochs=25, second="self_trained", second_epochs=2, batch_size=3, width=16),
    "fader_style": FaderConfig(side=64, widths=(8, 12, 16), epochs=25, gate_epochs=4, versions=1, batch_size=3, rate=1e-2),
}
MULTI = ("uniad", "onenip")


def plate(seed: int, period: float, mark: bool = False) -> Image.Image:
    """Stripes of a period, with noise; a dark square if marked."""
    rng = np.random.default_rng(seed)
    stripes = 140 + 30 * np.sin((np.arange(SIDE) + rng.integers(9)) / period)
    pixels = stripes[None, :, None] + rng.normal(0, 4, (SIDE, SIDE, 3))
    if mark:
        row, column = rng.integers(10, 60, 2)
        pixels[row : row + 22, column : column + 22] = 30
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


NORMALS = {"narrow": [plate(k, 2) for k in range(5)], "wide": [plate(k, 6) for k in range(10, 15)]}
UNSEEN, MARKED = [plate(k, 2) for k in (50, 51, 52)], [plate(k, 2, mark=True) for k in (60, 61, 62)]


@pytest.fixture(scope="module")
def model():
    return load_model("mini")


def fit(name, model, run=Run(), **changes):
    images = NORMALS if name in MULTI else NORMALS["narrow"]
    return TRAINED[name].fit(images, model, CONFIGS[name].model_copy(update=changes), run)


@pytest.fixture(scope="module")
def trained(model):
    return {name: fit(name, model) for name in TRAINED}


@pytest.fixture(params=list(TRAINED))
def name(request):
    return request.param


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def of(detector):
    return detector.of_class("narrow") if detector.name in MULTI else detector


def test_maps_lie_above_the_floor_and_show_what_is_wrong(trained, name):
    detector = of(trained[name])
    normal, marked = detector(UNSEEN), detector(MARKED)
    assert normal.shape == (3, 320, 320) and normal.dtype == np.float32
    assert normal.min() == 0 and np.isfinite(normal).all()
    assert marked.max((1, 2)).min() > normal.max((1, 2)).max()


def test_the_floor_is_the_median_of_what_is_normal(trained, name, model):
    detector = of(trained[name])
    batch = torch.stack([detector.preprocess(image) for image in NORMALS["narrow"]])
    with torch.no_grad():
        raw = detector.raw_maps(detector.describe(detector.features.layers(batch)))
    assert float(raw.median()) == pytest.approx(detector.fitted.floors[detector.class_name], rel=1e-4)
    torch.testing.assert_close(detector.maps(batch), (raw - detector.fitted.floors[detector.class_name]).clamp_min(0))
    as_published = replace(detector.fitted, config=CONFIGS[name].model_copy(update={"official": True}))
    official = type(detector)(detector.features, detector.tensors, as_published, detector.class_name)
    if name != "pradot":  # whose official maps are scaled by each image
        torch.testing.assert_close(official.maps(batch), raw)
    else:
        assert (official.maps(batch) - raw).abs().max() > 1e-3


def test_the_official_score_is_not_the_maximum_of_the_map(trained, name):
    detector = of(trained[name])
    scores, highest = detector.image_scores(MARKED), detector(MARKED).max((1, 2)) + detector.fitted.floors[detector.class_name]
    if name in ("pradot", "hetnet_style", "fader_style"):  # none is known of the last two
        np.testing.assert_allclose(scores, highest, rtol=1e-5)
    elif name == "pbas":
        assert (scores > highest).all(), "before smoothing"
    else:
        assert (scores < highest).all(), "after an average pool"


def test_one_seed_gives_the_same_bytes_and_so_does_a_training_that_was_stopped(name, model, tmp_path, monkeypatch):
    fit_shortly = partial(fit, name, model, epochs=4)
    whole = fit_shortly().tensors
    assert same(fit_shortly().tensors, whole)
    assert not same(fit_shortly(seed=1).tensors, whole)
    save, saved = torch.save, []

    def stop(*given):
        if len(saved) == 2:
            raise KeyboardInterrupt
        saved.append(save(*given))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch, "save", stop)
        fit_shortly(Run(tmp_path / "state.pt"))
    assert torch.load(tmp_path / "state.pt", weights_only=True)["epoch"] == 2
    assert same(fit_shortly(Run(tmp_path / "state.pt")).tensors, whole)
    with pytest.raises(DataError, match="belongs to another training than this one"):
        fit_shortly(Run(tmp_path / "state.pt"), batch_size=2)


@pytest.mark.parametrize("content", [b"", b"garbage", None], ids=["empty", "garbage", "another"])
def test_what_is_no_state_of_a_training_is_refused(model, tmp_path, content):
    path = tmp_path / "state.pt"
    torch.save({"epoch": 1}, path) if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=r"state\.pt is no state of a training .*: remove it, or give another file"):
        fit("fader_style", model, Run(path), epochs=1)


def test_kept_on_disk_and_adapted(trained, name, model, tmp_path):
    path = trained[name].save(tmp_path / "state.safetensors")
    loaded = type(trained[name]).load(path, model, "narrow" if name in MULTI else None)
    if (held := Path("/proc/self/maps")).exists():
        assert str(path) not in held.read_text(), "the file stays open"
    np.testing.assert_array_equal(loaded(MARKED), of(trained[name])(MARKED))
    adapted = add_normality(loaded, "square", model=model, noun="plate")
    assert (adapted(MARKED[:1])[0] <= loaded(MARKED[:1])[0]).all()
    adapted = add_normality(loaded, examples=MARKED[:1], model=model, normals=NORMALS["narrow"])
    assert adapted(MARKED[1:2])[0].max() < loaded(MARKED[1:2])[0].max()


def rewritten(path, tmp_path, **changes):
    """The same state with other words about it."""
    with safe_open(path, "pt") as file:
        tensors, said = {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["nandlib"])  # noqa: SIM118
    other = tmp_path / "other.safetensors"
    save_file(tensors, other, {"nandlib": json.dumps(said | changes)})
    return other


def test_states_that_do_not_fit_are_refused(trained, model, tmp_path):
    path = trained["pbas"].save(tmp_path / "state.safetensors")
    for place, message in (
        (tmp_path / "none.safetensors", "is missing: train a pbas"),
        (rewritten(path, tmp_path, format="0"), "is of version 0, this is version 2: train it again"),
    ):
        with pytest.raises(ModelError, match=message):
            Pbas.load(place, model)
    with pytest.raises(ModelError, match="was trained on the features 'mini:0', not on 'mini:3,4'"):
        Pbas.load(rewritten(path, tmp_path, features="mini:0"), model)
    with pytest.raises(ModelError, match="holds pbas, not pradot"):
        Pradot.load(path, model)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="holds no state of a detector"):
        UniAd.load(tmp_path / "x.safetensors", model)


def test_what_cannot_be_trained_or_asked_is_refused(trained, model):
    with pytest.raises(DataError, match="PRADOT is trained on normal images: none were given"):
        Pradot.fit({}, model)
    with pytest.raises(DataError, match="class 'a' has none"):
        UniAd.fit({"a": []}, model)
    with pytest.raises(DataError, match="normal images must be a sequence of images, not one"):
        Pbas.fit("one.png", model)
    with pytest.raises(DataError, match="normal images of class 'a' must be a sequence of images, not one"):
        UniAd.fit({"a": MARKED[0]}, model)
    with pytest.raises(DataError, match="images must be a sequence of images, not one"):
        trained["pbas"].image_scores(MARKED[0])
    assert trained["pbas"].image_scores([]).shape == (0,)
    with pytest.raises(DataError, match="PBAS is trained on one class at a time, not on 2: narrow, wide"):
        Pbas.fit(NORMALS, model)
    with pytest.raises(DataError, match=r"uniad: the loss is (nan|inf) in epoch \d, at a learning rate of [0-9e+]+: lower it"):
        fit("uniad", model, rate=1e30)
    with pytest.raises(DataError, match="knows no class 'narow': did you mean 'narrow'"):
        trained["uniad"].of_class("narow")
    with pytest.raises(DataError, match=r"was trained on 2 classes: say which images these are, of_class\(name\)"):
        trained["onenip"](MARKED)
    with pytest.raises(DataError, match="was trained on images of 320 x 320 pixels, not 256 x 256"):
        trained["onenip"].maps(torch.zeros(1, 3, 256, 256))
    with pytest.raises(ModelError, match="the embedded model's features"):
        UniAd.fit(NORMALS, object())


def test_fewer_images_than_a_batch_train_all_the_same(model):
    one = fit("pradot", model, batch_size=64)
    assert not same(one.tensors, fit("pradot", model, batch_size=64, epochs=1).tensors)


def test_prompts_and_synthetic_images(trained):
    prompts = [trained["onenip"].tensors[f"prompt.{name}"] for name in NORMALS]
    assert not torch.equal(*prompts)
    made = [synthetic_image(k, NORMALS["narrow"], 0, 64) for k in range(5)]
    for k, (pixels, mask) in enumerate(made):
        normal = np.asarray(NORMALS["narrow"][k].resize((64, 64), Image.Resampling.BICUBIC))
        assert (pixels[~mask] == normal[~mask]).all()
        assert 0 < mask.mean() < 0.7 and (pixels[mask] != normal[mask]).any()
    again = synthetic_image(0, NORMALS["narrow"], 0, 64)
    assert np.array_equal(again[0], made[0][0]) and isinstance(trained["onenip"], OneNip)


def test_by_name(model):
    detector = fit_detector("pradot", model, normals=NORMALS["narrow"])
    assert isinstance(detector, Pradot) and detector.fitted.config == PradotConfig()
    assert detector(MARKED).max((1, 2)).min() > detector(UNSEEN).max((1, 2)).max()


FULL = {  # published but for what takes long
    "uniad": UniAdConfig(size="full", epochs=1, backbone_weights=RANDOM),
    "onenip": OneNipConfig(size="full", epochs=1, backbone_weights=RANDOM),
    "pbas": PbasConfig(size="full", epochs=1, backbone_weights=RANDOM),
    "pradot": PradotConfig(size="full", epochs=1, per_cell=1, backbone_weights=RANDOM),
    "hetnet_style": HetNetConfig(size="full", epochs=1, width=16, backbone_weights=RANDOM, second_weights=RANDOM),
}


@pytest.mark.parametrize("name", FULL)
def test_full_size_means_what_was_published(name):
    config = CONFIGS[name].__class__(size="full")
    assert config.model_dump() | config.published == config.model_dump() and config.backbone != "embedded"
    assert config.__class__.model_validate(config.model_dump()) == config
    with pytest.raises(ModelError, match=f"the weights of {config.backbone} are missing"):
        TRAINED[name].fit(NORMALS["narrow"], None, config)


@pytest.mark.parametrize("name", FULL)
def test_at_full_size(name, tmp_path):
    """One epoch over two images with random weights: every shape; the state comes back; nothing of the backbone is in it."""
    images = NORMALS["narrow"][:2]
    detector = TRAINED[name].fit(images, None, FULL[name])
    side = detector.features.size
    maps = detector(images)
    assert maps.shape == (2, side, side) and side == (288 if name == "pbas" else 224) and np.isfinite(maps).all()
    path = detector.save(tmp_path / "state.safetensors")
    weights = dict.fromkeys(FULL[name].weight_fields, RANDOM)
    for key in weights:
        with pytest.raises(ModelError, match=key):
            TRAINED[name].load(path, **(weights | {key: None}))
    np.testing.assert_array_equal(TRAINED[name].load(path, **weights)(images), maps)
    with pytest.raises(TypeError, match="unexpected keyword argument 'weights'"):
        TRAINED[name].load(path, **weights, weights=RANDOM)


@pytest.mark.parametrize("given", [{"second": "deit_base_patch16_224"}, {"size": "full", "second": "self_trained"}])
def test_teachers_are_of_one_size(given):
    with pytest.raises(ValidationError, match="goes with size: full"):
        HetNetConfig(**given)


@pytest.mark.parametrize("name", ["wide_resnet50_2", "resnet50"])
def test_published_resnets_are_torchvisions(name, tmp_path):
    torch.manual_seed(5)
    expected = getattr(torchvision.models, name)(weights=None).eval()
    torch.save(expected.state_dict(), tmp_path / "weights.pth")
    backbone = published_backbone(name, (2, 3), tmp_path / "weights.pth")
    batch = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        two = expected.layer2(expected.layer1(expected.maxpool(expected.relu(expected.bn1(expected.conv1(batch))))))
        for own, there in zip(backbone(batch), (two, expected.layer3(two)), strict=True):
            torch.testing.assert_close(own, there, rtol=1e-4, atol=1e-5)


def test_the_published_transformer_is_timms(tmp_path):
    """By the names and in the wrapper of its file."""
    torch.manual_seed(5)
    expected = timm.create_model("deit_base_patch16_224", pretrained=False).eval()
    torch.save({"model": expected.state_dict()}, tmp_path / "weights.pth")
    backbone, batch = published_backbone("deit_base_patch16_224", (), tmp_path / "weights.pth"), torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        x = expected.pos_drop(torch.cat([expected.cls_token, expected.patch_embed(batch)], 1) + expected.pos_embed)
        for own, third in zip(backbone(batch), (slice(0, 4), slice(4, 8), slice(8, 12)), strict=True):
            x = expected.blocks[third](x)
            torch.testing.assert_close(own, x[:, 1:].transpose(1, 2).unflatten(2, (14, 14)), rtol=1e-4, atol=1e-5)


def test_the_published_efficientnet_by_its_files_names(tmp_path):
    backbone = EfficientNetB4()
    names = backbone.official_names()
    assert names["blocks.1.0.conv_pwl.weight"] == "_blocks.2._project_conv.weight"
    assert names["blocks.0.0.se.conv_reduce.bias"] == "_blocks.0._se_reduce.bias" and names["bn1.running_var"] == "_bn0.running_var"
    state = {
        names[own]: torch.randn(value.shape) if value.is_floating_point() else value for own, value in backbone.network.state_dict().items()
    }
    save_file(state, tmp_path / "weights.safetensors")
    loaded = published_backbone("efficientnet_b4", (0, 1, 2, 3), tmp_path / "weights.safetensors")
    assert all(torch.equal(value, state[names[own]]) for own, value in loaded.network.state_dict().items())
    state.pop("_blocks.5._se_expand.bias")
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ModelError, match="lacks 1 weights of efficientnet_b4, such as '_blocks.5._se_expand.bias'"):
        published_backbone("efficientnet_b4", (0, 1, 2, 3), tmp_path / "weights.safetensors")


def test_a_training_goes_on_where_its_tensors_are():
    """What a file holds is on the processor."""
    prototypes = _Prototypes(torch.zeros(3, 4, device="meta"), torch.zeros(3, 2, device="meta"), 0.3)
    prototypes.load_state_dict({"prototypes": torch.ones(3, 4), "scale": torch.ones(2)})
    assert prototypes.prototypes.is_meta and prototypes.scale.is_meta


def test_onenip_as_published(trained):
    """With the fixed prompt and the scale of training it is the map itself; both are drawn from what is tested otherwise."""
    one = trained["onenip"].of_class("narrow")
    images, prompts = MARKED[:2], NORMALS["narrow"]
    found = one.official_maps(images, prompts)
    assert found.shape == (2, 320, 320) and torch.equal(found, one.official_maps(images, prompts))
    assert not torch.equal(found, one.official_maps(images, prompts, seed=1)), "other prompts"
    assert not torch.equal(found[:1], one.official_maps(images[:1], prompts)), "another scale"


@pytest.mark.parametrize(
    ("config", "wrong", "why"),
    [
        (FaderConfig, {"side": 100}, "must be a multiple of 8"),
        (FaderConfig, {"cell": 200}, "hold two cells"),
        (HetNetConfig, {"width": 10}, "multiple of 4"),
    ],
)
def test_sizes_that_no_network_has_are_refused(config, wrong, why):
    with pytest.raises(ValidationError, match=why):
        config(**wrong)
