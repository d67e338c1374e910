"""What follows from examples once they are shown: more of them, which images they were, where they lie, and texts that nobody reads."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from test_examples import BARS, NORMALS, SIDE, SQUARES, model, patchcore, plate  # noqa: F401
from test_trained_detectors import CONFIGS
from typer.testing import CliRunner

from nandlib import AdaptedDetector, Example, add_normality
from nandlib.cli import app
from nandlib.data.layouts import find_layout
from nandlib.detectors.config import PbasConfig, PradotConfig, UniAdConfig
from nandlib.detectors.fitted import FORMAT
from nandlib.detectors.pbas import Pbas
from nandlib.detectors.pradot import Pradot
from nandlib.detectors.trained import TRAINED
from nandlib.detectors.uniad import UniAd
from nandlib.errors import DataError, ModelError
from nandlib.integrations.sklearn import NormalityDetector
from nandlib.method.check import removed_above
from nandlib.models.clip import ClipModel


@pytest.fixture
def folders(tmp_path):
    for name, images in {"normals": NORMALS, "shown": SQUARES[:1], "tested": [*SQUARES[1:3], *BARS[:2]]}.items():
        (tmp_path / name).mkdir()
        for k, image in enumerate(images):
            image.save(tmp_path / name / f"{name}{k}.png")
    return tmp_path


def test_more_examples_of_one_thing(patchcore, model):  # noqa: F811
    both = add_normality(patchcore, examples=SQUARES[:2], model=model)
    one = add_normality(patchcore, examples=SQUARES[:1], model=model)
    more = one.add(name="example", examples=SQUARES[1:2])
    assert more.names == ["example"]
    for ours, theirs in zip(more(SQUARES[2:]), both(SQUARES[2:]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(DataError, match="give another name, or name='example' to show more of it"):
        one.add(examples=SQUARES[1:2])
    said = add_normality(patchcore, "square", model=model).add(name="square", examples=SQUARES[:1])
    together = add_normality(patchcore, "square", examples=SQUARES[:1], model=model)
    np.testing.assert_array_equal(said.scores(SQUARES[1:]), together.scores(SQUARES[1:]))
    with pytest.raises(DataError, match="'square' is added already: give another name, or remove it first"):
        said.add("dark square", name="square")


def test_an_example_is_no_image_of_a_check(patchcore, model, tmp_path):  # noqa: F811
    adapted = add_normality(patchcore, examples=SQUARES[:2], model=model)
    adapted.save(tmp_path / "kept")
    for one in (adapted, AdaptedDetector.load(tmp_path / "kept", patchcore, model)):
        for kind in ("accepted", "rejected", "rejects"):
            with pytest.raises(DataError, match=f"image 1 of {kind} is image 2 of the examples"):
                one.check(NORMALS[-2:], **{kind: SQUARES[1:3]})
        assert one.remove("example").shown.every_key() == []
    path = tmp_path / "kept/adapted.yaml"
    key = adapted.shown.every_key()[0].hex()
    path.write_text(path.read_text().replace(key, "no key"))
    with pytest.raises(DataError, match=r"adapted.yaml: keys.example.0: "):
        AdaptedDetector.load(tmp_path / "kept", patchcore, model)


def test_normal_images_of_a_training_are_none_of_a_check(folders, model):  # noqa: F811
    paths = sorted((folders / "normals").iterdir())
    detector = TRAINED["pbas"].fit(NORMALS, model, CONFIGS["pbas"])
    adapted = add_normality(detector, examples=SQUARES[:1], model=model, normals=paths[:4])
    with pytest.raises(DataError, match="that the detector was not trained on: some of these it was"):
        adapted.check(paths[3:])


def test_of_what_lies_above_a_value():
    before, after = np.array([[1.0, 4.0], [6.0, 2.0]]), np.array([[1.0, 1.0], [6.0, 0.0]])
    assert removed_above([(before, after)], 3) == pytest.approx(30)
    assert np.isnan(removed_above([(before, after)], 9))


def test_a_check_says_at_which_threshold(folders):
    words = [f"{folders}/normals", "--rejects", f"{folders}/tested", "--accept", f"{folders}/shown", "--detector", "patchcore"]
    (folders / "fit").mkdir()
    for k in range(3):
        (folders / f"normals/normals{k}.png").rename(folders / f"fit/normals{k}.png")
    found = CliRunner().invoke(app, ["check", *words, "--normals", f"{folders}/fit"], catch_exceptions=False)
    assert "set by 3 normal images: at most 25% of such are above it" in found.output and "of what lies above the threshold" in found.output
    said = json.loads(CliRunner().invoke(app, ["check", *words, "--normals", f"{folders}/fit", "--json"]).stdout)
    assert said["threshold"]["n_normals"] == 3 and 0 < said["removed_regions"] < 100


def test_one_text_and_examples_are_one_normality(model):  # noqa: F811
    estimator = NormalityDetector(texts=["square"], examples=SQUARES[:1], model=model).fit(NORMALS)
    assert estimator.detector_.names == ["square"]
    several = NormalityDetector(texts=["square", "bar"], examples=SQUARES[:1], model=model).fit(NORMALS)
    assert several.detector_.names == ["square", "bar", "example"]


def test_masks_of_examples_on_the_command_line(folders):
    (folders / "masks").mkdir()
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[40:70, 5:40] = 255
    Image.fromarray(mask).save(folders / "masks/shown0_mask.png")
    words = ["explain", f"{folders}/tested/tested0.png", "--accept", f"{folders}/shown", "--detector", "patchcore"]
    words += ["--normals", f"{folders}/normals", "-o", f"{folders}/out.png", "--json"]
    plain, masked = (json.loads(CliRunner().invoke(app, [*words, *more]).stdout) for more in ([], ["--accept-masks", f"{folders}/masks"]))
    assert plain["score_before"] == masked["score_before"] and plain["score_after"] != masked["score_after"]
    Image.fromarray(mask).save(folders / "masks/other.png")
    found = CliRunner().invoke(app, [*words, "--accept-masks", f"{folders}/masks"])
    assert "other.png is the mask of no image of --accept" in str(found.exception)


def test_an_image_that_is_an_example_is_told_so(folders):
    words = ["explain", f"{folders}/shown/shown0.png", "--accept", f"{folders}/shown", "--detector", "patchcore"]
    found = CliRunner().invoke(app, [*words, "--normals", f"{folders}/normals", "-o", f"{folders}/out.png"], catch_exceptions=False)
    assert found.output.startswith("this image is one of the examples")


def test_a_state_is_trained_once_and_taken_by_other_commands(folders, monkeypatch):
    monkeypatch.setattr(UniAdConfig.model_fields["epochs"], "default", 2)
    UniAdConfig.model_rebuild(force=True)
    state = folders / "own.safetensors"
    try:
        CliRunner().invoke(app, ["fit", str(state), "--detector", "uniad", "--normals", f"{folders}/normals"], catch_exceptions=False)
        assert state.is_file() and not state.with_suffix(".pt").exists()
        words = ["explain", f"{folders}/tested/tested0.png", "-t", "square", "--detector", "uniad", "--checkpoint", str(state)]
        found = CliRunner().invoke(app, [*words, "-o", f"{folders}/out.png"], catch_exceptions=False)
        assert "before" in found.output
    finally:
        monkeypatch.undo()
        UniAdConfig.model_rebuild(force=True)
    wrong = CliRunner().invoke(app, ["fit", str(state), "--detector", "patchcore", "--normals", f"{folders}/normals"])
    assert "fitted in a moment" in str(wrong.exception)
    wrong = CliRunner().invoke(app, [*words[:5], "patchcore", "--checkpoint", str(state)])
    assert "must be the one that 'nand fit' trained" in str(wrong.exception)


def test_states_that_were_changed_are_refused(model, tmp_path):  # noqa: F811
    path = Pradot.fit(NORMALS, model, PradotConfig(epochs=1)).save(tmp_path / "own.safetensors")
    tensors, said = load_file(path), {"format": FORMAT, "detector": "pradot"}
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        whole = json.loads(file.metadata()["nandlib"])
    first = next(key for key, own in tensors.items() if own.is_floating_point())
    for changed, own in (
        ({**said}, tensors),
        ({**whole, "format": None}, tensors),
        ({**whole, "config": {**whole["config"], "colour": 1}}, tensors),
        ({**whole, "floors": {}}, tensors),
        (whole, {key: tensor for key, tensor in tensors.items() if key != first}),
        (whole, {**tensors, first: torch.full_like(tensors[first], float("nan"))}),
    ):
        save_file(own, path, {"nandlib": json.dumps(changed)})
        with pytest.raises(ModelError, match=r"own.safetensors is (damaged|of version None).*train it again"):
            Pradot.load(path, model)


def test_a_loss_that_is_no_number_stops_every_training(model):  # noqa: F811
    for kind, config in ((Pbas, PbasConfig(epochs=4, rate_factor=1e12)), (UniAd, UniAdConfig(epochs=4, rate=1e12))):
        with pytest.raises(DataError, match=f"{kind.name}: the loss is nan in epoch .* learning rate"):
            kind.fit(NORMALS[:3], model, config)


@pytest.mark.parametrize("text", ["划痕🧵", "🕳", "sehr " * 25 + "Kratzer"])
def test_what_the_text_model_does_not_read_is_refused(patchcore, model, text):  # noqa: F811
    with pytest.raises(DataError, match="knows English words alone|of which the embedded model reads 48"):
        add_normality(patchcore, text, model=model)


def test_what_clip_cuts_off_is_refused():
    clip = ClipModel.__new__(ClipModel)
    clip.tokenizer = lambda sentences: torch.ones(len(sentences), 77, dtype=torch.long)
    with pytest.raises(DataError, match="longer than the 77 tokens that CLIP reads"):
        clip.encode_text(["long"])


def test_an_example_that_may_show_nothing_is_told_so(patchcore, model):  # noqa: F811
    heights = sorted(float(single.max()) for single in patchcore.normal_maps())
    between = (np.median(heights) + heights[-1]) / 2

    class Detector:
        memory, n_normals, normals = patchcore.memory, patchcore.n_normals, ()
        normal_maps, describe = patchcore.normal_maps, patchcore.describe

        def __call__(self, images):
            return [between * single / single.max() for single in patchcore(images)]

    with pytest.warns(UserWarning, match="example 1 may show nothing: its score is .*, and a normal image reaches") as told:
        add_normality(Detector(), examples=SQUARES[:1], model=model)
    assert told[0].filename == __file__


def test_a_mask_of_several_planes_is_named(patchcore, model):  # noqa: F811
    with pytest.raises(DataError, match="must be one plane"):
        add_normality(patchcore, examples=[Example(SQUARES[0], mask=np.ones((SIDE, SIDE, 3)))], model=model)


def test_an_adapted_detector_is_told_in_a_line(patchcore, model):  # noqa: F811
    adapted = add_normality(patchcore, "square", examples=SQUARES[:1], model=model, noun="plate")
    assert len(repr(adapted)) < 400 and "square" in repr(adapted) and "Shown({'square': 1})" in repr(adapted)


def test_so_few_images_promise_less(patchcore, model):  # noqa: F811
    adapted, fresh = add_normality(patchcore, "square", model=model), [plate(k) for k in range(30, 33)]
    with pytest.warns(UserWarning, match="3 normal images promise a level of 0.250, not 0.05: give 19 or more"):
        assert adapted.calibrate(fresh).threshold.level == 0.25
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapted.calibrate(fresh, level=0.25)


def test_the_advice_is_of_what_was_added(folders):
    words = ["check", f"{folders}/normals", "--rejects", f"{folders}/tested", "--detector", "patchcore", "--normals", f"{folders}/shown"]
    said = CliRunner().invoke(app, [*words, "-t", "square"], catch_exceptions=False).output
    assert "another example" not in said


def test_apply_names_what_fell_most(folders):
    words = ["apply", f"{folders}/tested", "--accept", f"{folders}/shown", "--detector", "patchcore", "--normals", f"{folders}/normals"]
    said = CliRunner().invoke(app, [*words, "-o", f"{folders}/out", "--workers", "1"], catch_exceptions=False).output
    assert "it fell most for tested" in said and "if these are not what was meant" in said


def test_the_folder_of_one_class_is_named(tmp_path):
    (tmp_path / "carpet/train/good").mkdir(parents=True)
    with pytest.raises(DataError, match="carpet is one class: give the folder that it lies in"):
        find_layout(tmp_path / "carpet")
