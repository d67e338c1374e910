"""On somebody's own line: files that lie among others, names that are taken, detectors that know their images, and what is loaded again."""

import os
import warnings

import numpy as np
import pytest
from anomalib.models import Patchcore
from PIL import Image
from test_examples import BARS, NORMALS, SQUARES, plate
from test_no_silence import contrast
from typer.testing import CliRunner

from nandlib import AdaptedDetector, Example, add_normality, fit_detector, load_model
from nandlib.cli import app
from nandlib.cli.asked import Setting
from nandlib.data.maps import MapFolder, check_map
from nandlib.errors import DataError, ModelError, UnheardWarning
from nandlib.heard import unheard
from nandlib.integrations.anomalib import AnomalibDetector, adapt_module
from nandlib.integrations.sklearn import NormalityDetector
from nandlib.method.check import Scores, check
from nandlib.method.prompts import free_name
from nandlib.method.threshold import Threshold
from nandlib.models.mini import MiniModel
from nandlib.streaming.listing import Listing
from nandlib.streaming.map_files import map_folder


@pytest.fixture
def folder(tmp_path):
    for name, images in {"good": NORMALS, "shown": SQUARES[:2], "tested": BARS[:2]}.items():
        (tmp_path / name).mkdir()
        for k, image in enumerate(images):
            image.save(tmp_path / name / f"{k}.png")
    (tmp_path / "shown/masks").mkdir()
    white = np.zeros((SQUARES[0].height, SQUARES[0].width), np.uint8)
    white[4:9, 4:9] = 255
    Image.fromarray(white).save(tmp_path / "shown/masks/0_mask.png")
    return tmp_path


def asked(folder, *texts, accept="shown", masks=None, maps=None):
    masks = folder / masks if masks else None
    detector = None if maps else "patchcore"
    return Setting([*texts], [folder / accept], "object", detector, maps, None, folder / "good", "nand", None, accept_masks=masks)


def test_masks_among_the_examples_are_no_examples(folder):
    found = asked(folder, masks="shown/masks").examples()
    assert [isinstance(one, Example) for one in found] == [True, False] and len(found) == 2
    assert len(asked(folder, masks="shown/masks/0_mask.png").examples()) == 2
    assert len(asked(folder, masks="shown/masks").record()["masked"]) == 1
    with pytest.raises(DataError, match="is an image of --accept too: put the masks into a folder of their own"):
        asked(folder, accept="shown/masks", masks="shown/masks").check()


@pytest.mark.parametrize("name", ["good/0.png", "shown/1.png", "shown/masks/0_mask.png"])
def test_no_figure_takes_the_place_of_what_was_read(folder, name):
    before = (folder / name).read_bytes()
    words = ["explain", f"{folder}/tested/0.png", "--accept", f"{folder}/shown", "--accept-masks", f"{folder}/shown/masks"]
    found = CliRunner().invoke(app, [*words, "--detector", "patchcore", "--normals", f"{folder}/good", "-o", f"{folder}/{name}"])
    assert "is one of the images that are read" in str(found.exception) and (folder / name).read_bytes() == before


def test_a_text_that_is_called_example(model, folder):
    from nandlib.cli.asked import adapted_detector

    for texts in (("example", "dust"), ("dust", "example")):
        adapted = adapted_detector(asked(folder, *texts), None)
        assert adapted.names == [*texts, "example 2"] and adapted.normalities.keys() == set(texts)
    estimator = NormalityDetector(texts=["dust", "example"], examples=SQUARES[:1], model=model).fit(NORMALS)
    assert estimator.detector_.names == ["dust", "example", "example 2"]
    assert free_name(["a"]) == "example" and free_name(["example", "example 2"]) == "example 3"


def test_words_that_the_model_was_never_told(folder):
    assert unheard(["deep Scratch", "zzqx blorf", "fissures", "threads", "wrong colour", "of the"]) == ["zzqx blorf", "of the"]
    words = ["explain", f"{folder}/tested/0.png", "-o", f"{folder}/figure.png"]
    for text, said in (("zzqx", True), ("scratch", False)):
        found = CliRunner().invoke(app, [*words, "-t", text], catch_exceptions=False)
        assert (f"“{text}”: no word of it is among those that trained the embedded model" in found.stderr) == said
        assert "no word" not in found.stdout


def test_python_warns_of_words_that_the_model_was_never_told(folder):
    from nandlib.cli.asked import adapted_detector

    model = load_model("mini")  # with the heads of the package
    with pytest.warns(UnheardWarning, match="“zzqx”: no word of it") as told:
        adapted = add_normality(contrast, ["zzqx", "scratch"], model=model)
    assert len(told) == 1
    with pytest.warns(UnheardWarning, match="“blorf”") as added:
        adapted.add("blorf")
    assert told[0].filename == added[0].filename == __file__  # the line that said it
    with warnings.catch_warnings(action="error"):
        add_normality(contrast, "loose threads", model=model)
        add_normality(contrast, "zzqx", model=MiniModel(model.heads))  # of other heads nobody knows what trained them
        adapted_detector(asked(folder, "zzqx"), None)  # the commands say it once


def test_a_fit_that_failed_changes_nothing(model):
    estimator = NormalityDetector(detector=contrast, texts=["dust"], model=model).fit(NORMALS)
    before = estimator.score_samples(SQUARES[:1])
    with pytest.raises(DataError):
        estimator.set_params(texts=["\x00"]).fit(NORMALS)
    assert np.array_equal(estimator.score_samples(SQUARES[:1]), before) and estimator.detector_.names == ["dust"]


def test_a_model_that_is_adapted_is_no_base_detector(model):
    adapted = adapt_module(Patchcore(backbone="resnet18", layers=["layer2"], pre_trained=False), "thread", model=model)
    with pytest.raises(ModelError, match="adapted already: its detector is module.normality"):
        AnomalibDetector(adapted)


def test_a_map_is_of_one_image_wherever_it_is_asked_for(tmp_path, monkeypatch):
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        NORMALS[0].save(tmp_path / place / "a.png")
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps/a.npy", np.ones((4, 4)))
    found = MapFolder(tmp_path / "maps")
    monkeypatch.chdir(tmp_path / "x")
    found(["a.png"])
    monkeypatch.chdir(tmp_path / "y")
    assert len(found([tmp_path / "x/a.png"])) == 1
    with pytest.raises(DataError, match="would share the map"):
        found(["a.png"])
    (tmp_path / "real/sub").mkdir(parents=True)
    (tmp_path / "real/maps").mkdir()
    os.symlink(tmp_path / "real/sub", tmp_path / "link")
    assert MapFolder(tmp_path / "link/../maps").folder == tmp_path / "real/maps"  # as the file system goes, not the letters
    # a link and two dots on either side: files decide
    np.save(tmp_path / "real/maps/a.npy", np.ones((4, 4)))
    NORMALS[0].save(tmp_path / "real/a.png")
    os.symlink(tmp_path / "real", tmp_path / "other")
    for root, image in (("other/sub/..", "other/a.png"), ("other", "other/sub/../a.png")):
        assert len(MapFolder(tmp_path / "real/maps", tmp_path / root)([tmp_path / image])) == 1
    assert len(MapFolder(tmp_path / "real/maps")([tmp_path / "other/a.png", tmp_path / "other/sub/../a.png"])) == 2


def test_maps_of_examples_that_lie_elsewhere(folder):
    (folder / "maps").mkdir()
    for name in ("0", "example"):
        np.save(folder / f"maps/{name}.npy", np.ones((4, 4)))
    SQUARES[0].save(folder / "example.png")
    listing = Listing.of([folder / "tested/0.png"])
    assert len(map_folder(folder / "maps", listing, [folder / "example.png"])([folder / "example.png"])) == 1
    with pytest.raises(DataError, match="1 of 2 images have no map, the first is .*shown/1.png"):
        map_folder(folder / "maps", listing, [folder / "shown/1.png"])


def test_a_map_beyond_float32():
    with pytest.raises(DataError, match=r"goes up to 1e\+39, beyond float32: scale all maps alike"):
        check_map(np.full((3, 3), 1e39), "map")
    with pytest.raises(DataError, match="9 NaN or infinite values"):
        check_map(np.full((3, 3), np.inf), "map")


def test_an_image_that_falls_to_nothing_among_many_is_seen():
    many = Scores(np.full(200, 10.0), np.r_[0.1, np.full(199, 10.0)])
    accepted, normals = Scores(np.full(5, 10.0), np.full(5, 9.95)), Scores(np.ones(5), np.ones(5))
    nothing = Scores(np.array([]), np.array([]))
    assert check(normals, nothing, accepted, many, Threshold(5.0, 0.05, 20)).verdict != "does nothing"
    still = Scores(many.before, many.before * 0.995)
    assert check(normals, nothing, accepted, still, Threshold(5.0, 0.05, 20)).verdict == "does nothing"


def test_an_example_that_shows_nothing(model, tmp_path):
    (tmp_path / "maps").mkdir()
    SQUARES[0].save(tmp_path / "0.png")
    np.save(tmp_path / "maps/0.npy", np.zeros((8, 8)))
    with pytest.raises(DataError, match="shows nothing: its anomaly map is 0 there"):
        add_normality(MapFolder(tmp_path / "maps"), examples=[tmp_path / "0.png"], model=model, normals=NORMALS)


def test_a_point_counts_by_its_own_region(model):
    """Whose peak is below what normal images reach, though another region's is not."""
    peaks = np.zeros((64, 64), np.float32)
    peaks[10:14, 10:14], peaks[50:54, 50:54] = 9, 2

    def fixed(images):
        return [peaks if image is SQUARES[0] else np.full((64, 64), 3, np.float32) for image in images]

    width, height = SQUARES[0].size
    low, high = ((width * at / 64, height * at / 64) for at in (52, 12))
    with pytest.raises(DataError, match="its score is 2, and half of the normal images reach 3"):
        add_normality(fixed, examples=[Example(SQUARES[0], point=low)], model=model, normals=NORMALS)
    assert add_normality(fixed, examples=[Example(SQUARES[0], point=high)], model=model, normals=NORMALS).names == ["example"]


def test_a_threshold_counts_every_image_once_and_knows_what_was_fitted(model, tmp_path):
    for k, image in enumerate(NORMALS):
        image.save(tmp_path / f"{k}.png")
    os.symlink(tmp_path / "0.png", tmp_path / "link.png")
    fitted = [tmp_path / f"{k}.png" for k in range(4)]
    adapted = add_normality(fit_detector("patchcore", model, normals=fitted), "hair", model=model)
    for same in (tmp_path / "link.png", Image.open(tmp_path / "0.png")):
        with pytest.raises(DataError, match="images that the detector was not trained on"):
            adapted.calibrate([same], 0.5)
    changed = Image.open(os.fsencode(tmp_path / "0.png"))
    changed.paste(255, (0, 0, 40, 40))
    assert not adapted.shown.descriptors.knows(changed)  # it is that file no longer
    for ask in (adapted.calibrate, lambda images: adapted.recalibrate(images, 0.5)):
        with pytest.raises(DataError, match="count once each: an image is there twice"):
            ask([plate(30)] * 9)


def test_what_is_loaded_warns_as_before_and_fits_its_detector(model, tmp_path):
    adapted = add_normality(contrast, examples=SQUARES[:1], model=model, normals=NORMALS)
    loaded = AdaptedDetector.load(adapted.save(tmp_path / "own"), contrast, model)
    for name in ("level", "highest"):
        assert getattr(loaded.shown.descriptors, name) == getattr(adapted.shown.descriptors, name) is not None
    own = fit_detector("patchcore", model, normals=NORMALS)
    lent = add_normality(own, examples=SQUARES[:1], model=model)
    lent.save(tmp_path / "lent")

    class PatchCore(type(own)):
        """Of another backbone."""

        memory = property(lambda self: own.memory[:, :7])

    other = PatchCore.__new__(PatchCore)
    other.__dict__ |= own.__dict__
    with pytest.raises(
        DataError, match=r"holds examples by \d+ features a patch, and the detector that is given has 7: load the right one"
    ):
        AdaptedDetector.load(tmp_path / "lent", other, model)


def test_a_crop_without_a_pixel_is_no_good_part(model):
    adapted = add_normality(fit_detector("aprilgan", model), "hair", model=model)
    for empty in (np.zeros((0, 16, 3), np.uint8), np.zeros((16, 0), np.uint8), Image.new("RGB", (0, 8))):
        with pytest.raises(DataError, match="an image without a pixel, .*: look at where it was cut out"):
            adapted([empty])


def test_a_noun_that_cannot_be_read_is_refused_before_any_image_comes(model):
    with pytest.raises(DataError, match="^noun: .*holds what the embedded model cannot read"):
        add_normality(contrast, "hair", model=model, noun="地毯")


def test_texts_from_a_file_lose_their_ends(model):
    adapted = add_normality(contrast, "loose thread\n", model=model).add(["a\u00a0hole ", "\thole"])
    assert adapted.normalities == {"loose thread": ("loose thread",), "a hole": ("a hole", "hole")}
    assert adapted.remove("loose thread\n").names == adapted.remove("loose thread").names == ["a hole"]


def test_an_opened_picture_may_stand_several_times_in_a_list(model, tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (900, 900, 3), dtype=np.uint8)).save(tmp_path / "0.png")
    opened = Image.open(tmp_path / "0.png")
    maps = fit_detector("aprilgan", model, noun="cloth")([opened] * 4)
    assert all(np.array_equal(maps[0], own) for own in maps)


def test_an_image_that_moves_on_keeps_its_map(tmp_path):
    for name in ("in", "done", "maps"):
        (tmp_path / name).mkdir()
    (tmp_path / "in/x.png").touch()
    (tmp_path / "maps/x.npy").write_bytes(b"cut")
    detector = MapFolder(tmp_path / "maps")
    with pytest.raises(DataError, match=r"x.npy cannot be read as an anomaly map \(it does not begin as a .npy file\): write it anew"):
        detector([tmp_path / "in/x.png"])
    np.save(tmp_path / "maps/x.npy", np.ones((4, 4), np.float32))
    assert detector([tmp_path / "in/x.png"])[0].shape == (4, 4)
    (tmp_path / "in/x.png").rename(tmp_path / "done/x.png")
    assert detector([tmp_path / "done/x.png"])[0].shape == (4, 4)
    (tmp_path / "in/x.png").touch()  # another of that name
    with pytest.raises(DataError, match="would share the map"):
        detector([tmp_path / "in/x.png"])


def test_scores_of_many_images_hold_few_maps():
    asked = []

    def detector(images):
        asked.append(len(images))
        return [np.asarray(image, np.float32)[..., 0] for image in images]

    adapted = add_normality(detector, "thread").remove("thread")
    many = np.random.default_rng(0).integers(0, 255, (600, 8, 8, 3), dtype=np.uint8)
    for images in (many, list(many), tuple(many)):
        asked.clear()
        assert np.array_equal(adapted.scores(images), many[..., 0].max((1, 2)))
        assert asked == [256, 256, 88]
    with pytest.raises(DataError, match="not one"):
        adapted.scores(np.zeros((300, 8, 3), np.uint8))
    odd = add_normality(lambda images: [np.where(image[..., 0] == 7, np.nan, 0.0) for image in images], "thread").remove("thread")
    many[:], many[300] = 1, 7
    with pytest.raises(DataError, match=r"image 44.*\(images are counted from number 256\)"):
        odd.scores(many)
    assert adapted.scores([]).shape == (0,)
