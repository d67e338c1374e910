"""What detectors are fitted on and loaded with at the edges: one image, one class, no patch, reused memory, published sizes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from test_trained_detectors import CONFIGS, FULL, NORMALS
from torch import Tensor

from nandlib import fit_detector
from nandlib.detectors.backbones import published_backbone
from nandlib.detectors.config import PatchCoreConfig, PbasConfig, PradotConfig, UniAdConfig
from nandlib.detectors.features import published_features
from nandlib.detectors.hetnet_network import PositionNoise
from nandlib.detectors.patchcore import PatchCore
from nandlib.detectors.pradot_transport import prototype_places
from nandlib.detectors.synthesis import synthetic_image
from nandlib.detectors.trained import TRAINED
from nandlib.detectors.training import Run
from nandlib.errors import DataError, ModelError
from nandlib.method.examples import Example
from nandlib.models import Placement, load_model
from nandlib.models.clip import load_clip
from nandlib.models.last import LastAnswer
from nandlib.settings import RANDOM
from nandlib.study.fitted import fitted_detectors
from nandlib.study.open_study import OpenStudy
from nandlib.study.preset import load_study

IMAGES = NORMALS["narrow"]
ROOT = Path(__file__).parents[1]


def test_positions_of_normal_images_may_count_from_the_end(model):
    detector = PatchCore(model, IMAGES[:3], PatchCoreConfig())
    assert torch.equal(detector.normal_maps([-1]), detector.normal_maps([2]))
    assert detector.normal_maps([]).shape == (0, *detector.normal_maps([0]).shape[1:])


def test_one_image_has_noise_too():
    """Of HetNet-style: where no image differs from the others, places do."""
    features = torch.randn(1, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    for alike in (features, features.repeat(3, 1, 1, 1)):
        assert (PositionNoise(alike, 0.01).draw(2) - features).abs().max() > 0.01
    several = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(1))
    assert PositionNoise(several, 0.01).spread == pytest.approx(float(0.01 * several.var(0, correction=0).mean()) ** 0.5)


@pytest.mark.parametrize("damage", ["{", "[1]", "no features", "no floor"])
def test_states_that_are_damaged(model, tmp_path, damage):
    path = TRAINED["pbas"].fit(IMAGES[:2], model, CONFIGS["pbas"]).save(tmp_path / "state.safetensors")
    with safe_open(path, "pt") as file:
        said, tensors = json.loads(file.metadata()["nandlib"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if damage == "no features":
        del said["features"]
    if damage == "no floor":
        said["floors"] = dict.fromkeys(said["floors"], float("nan"))
    save_file(tensors, path, {"nandlib": damage if damage in "{[1]" else json.dumps(said)})
    with pytest.raises(ModelError, match="state.safetensors"):
        TRAINED["pbas"].load(path, model)


def test_a_buffer_that_is_written_again_is_looked_at_again(model):
    detector = fit_detector("aprilgan", model=model, noun="plate")
    first, second = (detector.preprocess(image)[None] for image in (IMAGES[0], NORMALS["wide"][0]))
    buffer = first.clone()
    before = detector.maps(buffer).clone()
    buffer.copy_(second)
    after = detector.maps(buffer)
    assert torch.equal(before, detector.maps(first)) and torch.equal(after, detector.maps(second))
    assert not torch.equal(before, after)


def test_the_last_answer_is_given_again_only_to_the_same_question():
    asked, last, batch = [], LastAnswer[Tensor](), torch.zeros(2)

    def answer():
        asked.append(1)
        return batch * 2

    assert last(batch, answer) is last(batch, answer) and len(asked) == 1
    last(batch, answer, "autocast")
    assert len(asked) == 2
    last(batch.clone(), answer)
    assert len(asked) == 3
    with torch.inference_mode():  # whose tensors no gradient can pass
        last(batch, answer)
    batch.requires_grad_()
    with torch.no_grad():
        last(batch, answer)
    assert last(batch, answer).requires_grad and len(asked) == 6


@pytest.mark.parametrize("images", [IMAGES[:1], [IMAGES[0]] * 2], ids=["one", "twice the same"])
def test_pbas_is_trained_on_one_image(model, images):
    assert np.isfinite(TRAINED["pbas"].fit(images, model, PbasConfig(width=32, hidden=16, epochs=2, stages=(3, 4)))(images)).all()


def test_what_cannot_be_fitted_is_refused(model):
    for config in (PatchCoreConfig(coreset_ratio=0.001), PatchCoreConfig(max_patches=3)):
        with pytest.raises(DataError, match="of .* patches is none: raise coreset_ratio"):
            PatchCore(model, IMAGES[:1], config)
    with pytest.raises(DataError, match="none were given"):
        PatchCore(model, [])
    for name in ("patchcore", "aprilgan_1"):
        with pytest.raises(DataError, match=f"{name} is for images of one class"):
            fit_detector(name, model=model, normals=NORMALS)
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        PbasConfig(seed=-1)
    assert len(prototype_places((20, 20), 0.02)) == 1


@pytest.mark.parametrize("name", [*TRAINED, "patchcore"])
def test_nobody_elses_random_numbers_change(model, name):
    images = NORMALS if name in ("uniad", "onenip") else IMAGES[:2]
    before = torch.get_rng_state()
    if name == "patchcore":
        PatchCore(model, images)
    else:
        TRAINED[name].fit(images, model, CONFIGS[name].model_copy(update={"epochs": 1})).of_class(
            "narrow" if images is NORMALS else "object"
        )
    assert torch.equal(torch.get_rng_state(), before)


def test_synthetic_images_are_resampled_as_clean_ones_are():
    rng = np.random.default_rng(0)
    grainy = Image.fromarray(rng.integers(0, 255, (300, 300, 3), dtype=np.uint8))
    features = published_features(FULL["onenip"])
    clean = features.preprocess(grainy)
    for resampling, same in ((features.resampling, True), (Image.Resampling.BICUBIC, False)):
        made, mask = synthetic_image(0, [grainy], 0, features.size, resampling)
        outside = ~torch.from_numpy(mask)
        found = features.preprocess(Image.fromarray(made))
        assert outside.any() and torch.equal(found[:, outside], clean[:, outside]) == same


def test_distances_are_in_float32_whatever_the_features_are():
    config, images = PatchCoreConfig(backbone_weights=RANDOM, coreset_ratio=1.0), IMAGES[:1]
    rough = PatchCore(None, images, config, Placement(precision="autocast"))
    described = rough.describe(IMAGES[1:2])[0].flatten(1).T.double()
    nearest = torch.cdist(described, rough.memory.double()).amin(1)
    expected = rough.maps_of(nearest.float().view(1, 32, 32))
    found = rough.maps(rough.preprocess(IMAGES[1])[None])
    assert (found - expected).abs().max() < 1e-3 * expected.max()


def test_published_sizes_come_back_with_their_weights(tmp_path):
    study = OpenStudy(tmp_path, load_study(ROOT / "studies/mvtec_ad_detectors_random.yaml"))
    study.states.mkdir(parents=True)
    one = TRAINED["pbas"].fit(IMAGES[:2], None, study.config.trained.of("pbas").model_copy(update={"epochs": 1}))
    one.save(study.states / "pbas_plate.safetensors")
    np.testing.assert_array_equal(fitted_detectors(study, "pbas", None, ["plate"])["plate"](IMAGES[:1]), one(IMAGES[:1]))
    assert study.resolved(study.config.patchcore).backbone_weights == RANDOM
    full = study.config.patchcore.model_copy(update={"backbone_weights": Path("data/weights/x.pth")})
    assert study.resolved(full).backbone_weights == tmp_path / "data/weights/x.pth"


def test_a_state_knows_the_weights_of_its_backbone(tmp_path):
    config = PradotConfig(size="full", backbone_weights=RANDOM, image_size=64, per_cell=1.0, epochs=1, batch_size=2)
    state = {name: tensor * 1.01 for name, tensor in published_backbone("resnet50", config.stages, RANDOM).network.state_dict().items()}
    torch.save(state, tmp_path / "r50.pth")
    trained = TRAINED["pradot"].fit(IMAGES[:2], None, config.model_copy(update={"backbone_weights": tmp_path / "r50.pth"}))
    trained.save(tmp_path / "pradot.safetensors")
    same = TRAINED["pradot"].load(tmp_path / "pradot.safetensors", backbone_weights=str(tmp_path / "r50.pth"))
    np.testing.assert_array_equal(same(IMAGES[:1]), trained(IMAGES[:1]))
    with pytest.raises(ModelError, match=r"was trained on the features 'resnet50@64:2,3#\w{8}', not on 'resnet50@64:2,3#"):
        TRAINED["pradot"].load(tmp_path / "pradot.safetensors", backbone_weights="random")
    for asked in (
        lambda: published_backbone("wide_resnet50_2", (2, 3), tmp_path / "r50.pth"),
        lambda: PatchCore(None, IMAGES[:2], PatchCoreConfig(backbone_weights=tmp_path / "r50.pth")),
    ):
        with pytest.raises(ModelError, match=r"r50\.pth (does not hold the|lacks \d+) weights of wide_resnet50_2"):
            asked()


def test_a_training_of_other_classes_is_another(model, tmp_path):
    config = CONFIGS["onenip"].model_copy(update={"epochs": 1})
    run = Run(tmp_path / "state.pt")
    TRAINED["onenip"].fit({"a": IMAGES[:1], "b": IMAGES[1:2]}, model, config, run)
    with pytest.raises(DataError, match="belongs to another training"):
        TRAINED["onenip"].fit({"all": IMAGES[:2]}, model, config, run)


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (UniAdConfig, {"backbone": "efficientnet_b4"}, "backbone: efficientnet_b4 does not go with size: embedded"),
        (UniAdConfig, {"size": "full", "backbone": "embedded"}, "backbone: embedded does not go with size: full"),
        (PbasConfig, {"stages": (6,)}, "stages: the embedded tower has those from 0 to 5"),
        (PbasConfig, {"stages": ()}, "stages: one or more"),
        (UniAdConfig, {"width": 100, "heads": 8}, "width: 100 must be a multiple of heads: 8"),
        (PradotConfig, {"alphas": ()}, "at least 1 item"),
    ],
)
def test_settings_that_fit_no_network_are_refused(kind, given, message):
    with pytest.raises(ValidationError, match=message):
        kind(**given)


def test_what_is_asked_may_be_empty_and_is_a_sequence(model, tmp_path):
    patchcore, pbas = fit_detector("patchcore", model, normals=IMAGES[:2]), TRAINED["pbas"].fit(IMAGES[:1], model, PbasConfig(epochs=1))
    assert len(patchcore.describe([])) == 0 and len(model.encode_text([])) == 0
    stack = np.stack([np.asarray(image) for image in IMAGES[:2]])
    np.testing.assert_array_equal(pbas.image_scores(stack), pbas.image_scores(IMAGES[:2]))
    with pytest.raises(DataError, match=r"a sequence of texts, not one: \['crack'\]"):
        model.encode_text("crack")
    for given, message in (({"point": ("3", "4")}, "must be two numbers"), ({"box": (1, 2, 3, (4, 5))}, "must be four numbers")):
        with pytest.raises(DataError, match=message):
            Example(IMAGES[0], **given).where((40, 40))
    for name, content in (("junk.pt", b"junk"), ("junk.safetensors", b"\1" * 40)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match="junk"):
            load_clip("ViT-B-32", tmp_path / name)


def test_loading_leaves_random_numbers_alone(heads_file):
    before = torch.random.get_rng_state()
    load_model("mini", heads_file).encode_text(["a crack"])
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", list(TRAINED))
def test_settings_of_another_detector_are_refused(name, model):
    other = PradotConfig() if name != "pradot" else PbasConfig()
    with pytest.raises(DataError, match=f"config must be a .*Config, not {type(other).__name__}"):
        TRAINED[name].fit(IMAGES, model, other)
