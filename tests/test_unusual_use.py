"""What users do that no example shows: one image for a list, results among images, half-removed results, arrays that change afterwards."""

import shutil
import socket
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_apply import nand
from test_examples import BARS, NORMALS, SQUARES
from typer.testing import CliRunner

from nandlib import AdaptedDetector, add_normality, fit_detector
from nandlib.cli import app, main
from nandlib.data.addresses import read
from nandlib.data.images import as_image, load_image
from nandlib.data.maps import check_maps
from nandlib.errors import DataError, EngineError, ModelError
from nandlib.integrations.onnx import export_onnx
from nandlib.integrations.sklearn import NormalityDetector
from nandlib.method.config import NandConfig, PlusConfig
from nandlib.method.examples import Example
from nandlib.signals.nearest import NearestRecords
from nandlib.signals.records import read_ecg5000
from nandlib.streaming import cluster
from nandlib.streaming.apply import apply
from nandlib.streaming.here import Here
from nandlib.streaming.listing import Listing
from nandlib.streaming.work import How
from nandlib.surfaces.anomalies import PerlinAnomaly


@pytest.fixture(scope="module")
def patchcore(model):
    return fit_detector("patchcore", model, normals=NORMALS)


def bright(pictures):
    return np.stack([np.asarray(as_image(picture).convert("L"), np.float32) / 255 for picture in pictures])


def refused(words, why):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(result.exception, DataError) and why in str(result.exception), result.exception


# --- one where several are meant ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", ["a.png", NORMALS[0], np.asarray(NORMALS[0])], ids=["path", "image", "array"])
def test_one_image_is_no_sequence(one, model, patchcore, tmp_path):
    adapted = add_normality(patchcore, "scratch", model=model)
    for call in (
        lambda: patchcore(one),
        lambda: adapted(one),
        lambda: adapted.add(examples=one),
        lambda: fit_detector("patchcore", model, normals=one),
        lambda: add_normality(patchcore, "scratch", model=model, normals=one),
    ):
        with pytest.raises(DataError, match="must be a sequence of images, not one"):
            call()
    for many in (set(), iter([SQUARES[0]])):
        with pytest.raises(DataError, match=r"in an order: sorted\(paths\), or list\(images\)"):
            adapted(many)
    with pytest.raises(DataError, match=r"not a folder: sorted\(Path\('.*'\)\.glob"):
        fit_detector("patchcore", model, normals=tmp_path)
    with pytest.raises(DataError, match="examples must be a sequence"):
        adapted.add(examples=Example(SQUARES[0]))


def test_a_stack_of_grey_images_is_a_sequence(patchcore):
    grey = np.stack([np.asarray(image.convert("L")) for image in SQUARES])
    assert patchcore(grey).shape[0] == len(SQUARES)


def test_paths_in_an_array_are_a_sequence(tmp_path, model, patchcore):
    SQUARES[0].save(tmp_path / "a.png")
    listed = add_normality(patchcore, examples=[str(tmp_path / "a.png")], model=model)
    assert np.array_equal(add_normality(patchcore, examples=np.array([str(tmp_path / "a.png")]), model=model)(BARS)[0], listed(BARS)[0])


# --- parameters that would do nothing, or harm ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"method": "nandplus"}, "method is 'nandplus'"),
        ({"nand": NandConfig(layer_aggregation="sum")}, "'sum' goes beyond 1"),
        ({"others": ["hole"]}, "they do nothing here"),
    ],
)
def test_parameters_without_a_meaning(more, why, model, patchcore):
    with pytest.raises(DataError, match=why):
        add_normality(patchcore, "scratch", model=model, **more)


def test_the_detectors_own_images_are_no_check(tmp_path):
    for k, image in enumerate(NORMALS):
        (tmp_path / "n").mkdir(exist_ok=True)
        image.save(tmp_path / f"n/{k}.png")
    refused(
        ["check", tmp_path / "n", "-t", "scratch", "--detector", "patchcore", "--normals", tmp_path / "n"],
        "image 1 of good is image 1 of --normals",
    )


# --- what callers change afterwards -----------------------------------------------------------------------------------------------------


def test_a_fitted_detector_keeps_its_images(model):
    arrays = [np.asarray(image).copy() for image in NORMALS[:4]]
    detector = fit_detector("patchcore", model, normals=arrays)
    before = detector.normal_maps()
    arrays[0][:] = 0
    arrays.append(arrays[1])
    assert detector.n_normals == 4 and torch.equal(detector.normal_maps(), before)


def test_normal_images_are_the_same_however_they_are_given(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn, which viewers undo
    paths = [tmp_path / f"{k}.jpg" for k in range(3)]
    for path, image in zip(paths, NORMALS, strict=False):
        image.save(path, exif=exif)
    of_files = fit_detector("patchcore", model, normals=paths)
    assert torch.equal(fit_detector("patchcore", model, normals=[Image.open(path) for path in paths]).memory, of_files.memory)


def test_a_detector_may_use_its_memory_again(model):
    buffer = np.zeros((8, 40, 40), np.float32)

    def once(images):
        return np.stack([np.asarray(as_image(image).convert("L").resize((40, 40)), np.float32) for image in images])

    def again(images):
        buffer[: len(images)] = once(images)
        return buffer[: len(images)]

    ours, theirs = (add_normality(own, examples=SQUARES[:1], model=model, normals=NORMALS[:3]) for own in (again, once))
    np.testing.assert_array_equal(ours.scores(SQUARES[1:3]), theirs.scores(SQUARES[1:3]))
    assert torch.equal(ours.shown.examples["example"], theirs.shown.examples["example"])


def test_maps_of_any_layout_in_memory():
    mirrored, fixed = np.ones((4, 5), np.float32)[::-1], np.ones((4, 5), np.float32)
    fixed.flags.writeable = False
    assert all(torch.from_numpy(single).sum() == 20 for single in check_maps([mirrored, fixed], 2, "d"))
    with pytest.raises(DataError, match=r"d, image 1: an anomaly map must be \(H, W\)"):
        check_maps([np.ones((2, 2)), None], 2, "d")
    for other, kind in (({"maps": 0}, "dict"), ((np.ones((2, 3, 4)), np.ones(2), 0), "tuple")):
        with pytest.raises(DataError, match=f"d returned a {kind}: it must return the maps alone"):
            check_maps(other, 2, "d")
    assert len(check_maps({"anomaly_map": np.ones((2, 3, 4))}, 2, "d")) == len(check_maps((np.ones((1, 3, 4)),) * 2, 2, "d")) == 2
    with pytest.raises(DataError, match="d returned NoneType"):
        check_maps(None, 2, "d")


# --- files ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.int32, np.uint16])
def test_whole_numbers_keep_their_range(tmp_path, kind):
    numbers = np.arange(0, 50_000, 2000, dtype=kind).reshape(5, 5)
    Image.fromarray(numbers).save(tmp_path / "a.tiff")
    assert np.array_equal(np.asarray(load_image(tmp_path / "a.tiff"))[..., 0], numbers // 257)
    dark = Image.fromarray((numbers // 257).astype(kind))
    if kind is np.int32:  # a bright image of 8 bits, or a dark one of 16
        with pytest.raises(DataError, match="save it with 8 or 16 bits, as it is meant"):
            as_image(dark)
    else:
        with pytest.warns(UserWarning, match="read as nearly black: if it is of 8, 10 or 12 bits"):
            assert not np.asarray(as_image(dark)).any()
    Image.fromarray(np.full((5, 5), -3, np.int32)).save(tmp_path / "b.tiff")
    with pytest.raises(DataError, match="numbers from -3 to -3"):
        load_image(tmp_path / "b.tiff")


def test_colons_in_names(tmp_path):
    (tmp_path / "a::b").mkdir()
    NORMALS[0].save(tmp_path / "a::b/c::d.png")
    assert read(str(tmp_path / "a::b/c::d.png")) == (tmp_path / "a::b/c::d.png").read_bytes()


def test_a_folder_where_a_file_should_be(tmp_path, monkeypatch, capsys):
    NORMALS[0].save(tmp_path / "a.png")
    monkeypatch.setattr("sys.argv", ["nand", "explain", str(tmp_path / "a.png"), "-t", "scratch", "-o", str(tmp_path / "a.png/x.png")])
    with pytest.raises(SystemExit):
        main()
    assert "rename it, or give another folder" in capsys.readouterr().err


# --- results ----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, model):
    """Applies a detector that needs no network to a folder of images; gives how many were worked on."""
    adapted = add_normality(bright, "hair", model=model).remove("hair")
    for k, image in enumerate(NORMALS[:4]):
        (tmp_path / "images").mkdir(exist_ok=True)
        image.save(tmp_path / f"images/{k}.png")

    def go(how=How(batch=1), out=tmp_path / "out", engine=Here(1)):
        worked = []

        def counting(work, shards):
            for done in engine(work, shards):
                worked.append(done)
                yield done

        counting.threads = engine.threads
        apply(lambda: adapted, Listing.of([tmp_path / "images"]), out, {}, how, engine=counting)
        return sum(worked)

    return go


def test_results_that_were_removed_are_made_again(run, tmp_path):
    assert run() == 4 and run() == 0
    shutil.rmtree(tmp_path / "out/maps")
    (tmp_path / "out/overlays/2.png").unlink()
    assert run() == 4 and len(list((tmp_path / "out/maps").iterdir())) == len(list((tmp_path / "out/overlays").iterdir())) == 4
    shards = How(store="shards", overlays=False, batch=1)
    assert run(shards, tmp_path / "other") == 4
    next((tmp_path / "other/shards").glob("*.safetensors")).unlink()
    assert run(shards, tmp_path / "other") == 1 and run(shards, tmp_path / "other") == 0


def test_maps_that_were_removed_in_shards_of_several(run, tmp_path):
    """The images come in other shards than before: every one has one row in the end."""
    pairs = How(store="shards", overlays=False, batch=2)
    assert run(pairs) == 4
    next((tmp_path / "out/shards").glob("*.safetensors")).unlink()
    NORMALS[4].save(tmp_path / "images/00.png")
    assert run(pairs) == 3 and run(pairs) == 0
    assert len((tmp_path / "out/scores.csv").read_text().splitlines()) == 1 + 5


def test_what_was_skipped_is_asked_again_and_leaves_no_old_map(run, tmp_path):
    assert run() == 4
    (tmp_path / "images/1.png").write_bytes(b"no image")
    skipping = How(batch=1, skip_unreadable=True)
    assert run(skipping) == 1 and run(skipping) == 0
    assert not (tmp_path / "out/maps/1.npy").exists() and not (tmp_path / "out/overlays/1.png").exists()
    with pytest.raises(DataError, match=r"1.png cannot be read"):
        run()


def test_files_of_others_stay(run, tmp_path):
    for name in (".download.partial", "sub/.video.mp4.partial", "sub/.x.12.partial", "maps/.mine.partial"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).touch()
    (tmp_path / "out/maps/.0.npy.12.partial").touch()  # of a killed run
    run()
    left = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob(".*partial")}
    assert left == {".download.partial", "sub/.video.mp4.partial", "sub/.x.12.partial", "maps/.mine.partial"}


def test_results_among_the_images_are_no_images(run, tmp_path):
    run(out=tmp_path / "images/first")
    assert len(Listing.of([tmp_path / "images"])) == 4
    assert len(Listing.of([tmp_path / "images/first/overlays"])) == 4, "but they may be asked for"
    NORMALS[5].save(tmp_path / "images/first/own.png")
    assert "first/own.png" in list(Listing.of([tmp_path / "images"])), "an image of the user's own beside them is one"


def test_two_images_of_one_name_with_a_folder_between_them(run, tmp_path):
    (tmp_path / "images/0.mask").mkdir()
    NORMALS[0].save(tmp_path / "images/0.mask/x.png")
    NORMALS[0].save(tmp_path / "images/0.tif")
    with pytest.raises(DataError, match="two images are called 0"):
        run()


def test_a_changed_map_of_an_example_is_another_setting(tmp_path):
    for k, image in enumerate([*NORMALS[:3], *SQUARES[:3]]):
        for folder in ("images", "maps"):
            (tmp_path / folder).mkdir(exist_ok=True)
        image.save(tmp_path / f"images/{k}.png")
        np.save(tmp_path / f"maps/{k}.npy", np.full((20, 20), 1 + k, np.float32) + np.eye(20, dtype=np.float32))
    normals = tmp_path / "images/0.png"
    words = ["apply", tmp_path / "images", "--accept", tmp_path / "images/5.png", "--maps", tmp_path / "maps", "--normals", normals]
    words += ["-o", tmp_path / "out"]
    nand(*words)
    nand(*words)
    np.save(tmp_path / "maps/5.npy", np.ones((20, 20), np.float32))
    refused(words, "holds results of another setting (example maps")


# --- saved and loaded -------------------------------------------------------------------------------------------------------------------


def test_names_keep_their_order_and_normal_images_can_be_given(tmp_path, model):
    detector = fit_detector("aprilgan", model)
    adapted = add_normality(detector, examples=SQUARES[:1], name="zeta", normals=NORMALS, model=model).add(examples=BARS[:1], name="alpha")
    adapted.save(tmp_path / "shown")
    loaded = AdaptedDetector.load(tmp_path / "shown", detector, model)
    assert loaded.names == ["zeta", "alpha"] and all(map(np.array_equal, loaded(SQUARES), adapted(SQUARES)))
    assert loaded.shown.descriptors.level == adapted.shown.descriptors.level
    with pytest.raises(DataError, match="shows nothing"):
        loaded.add(examples=[min(NORMALS, key=lambda image: detector([image]).max())], name="nothing")
    said = add_normality(detector, "scratch", model=model)
    said.save(tmp_path / "said")
    more = AdaptedDetector.load(tmp_path / "said", detector, model, normals=NORMALS).add(examples=SQUARES[:1], name="square")
    again = add_normality(detector, "scratch", model=model, normals=NORMALS).add(examples=SQUARES[:1], name="square")
    assert all(map(np.array_equal, more(SQUARES), again(SQUARES)))


# --- integrations -----------------------------------------------------------------------------------------------------------------------


def test_examples_with_any_detector_of_scikit_learn(model):
    fitted = NormalityDetector("aprilgan", examples=SQUARES[:1], model=model).fit(NORMALS)
    assert (fitted.score_samples(SQUARES[1:]) >= -np.array([m.max() for m in fitted.detector_.detector(SQUARES[1:])])).all()


def test_a_box_needs_no_maps_of_normal_images(tmp_path, model):
    for name, image in (("n", NORMALS[0]), ("s", SQUARES[0])):
        image.save(tmp_path / f"{name}.png")
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps/s.npy", np.ones((20, 20), np.float32))
    example = Example(tmp_path / "s.png", box=(50, 15, 64, 29))
    shown = add_normality(tmp_path / "maps", examples=[example], normals=[tmp_path / "n.png"], model=model)
    assert shown([tmp_path / "s.png"])[0].min() < 1


def test_graphs_are_refused_or_right(tmp_path, model, patchcore):
    import onnxruntime

    own = fit_detector("patchcore", model, normals=NORMALS[:2])
    own.preprocess = lambda image: model.preprocess(image)
    with pytest.raises(ModelError, match="a PatchCore with another model"):
        export_onnx(add_normality(own, "scratch", model=model), tmp_path / "a.onnx")
    plain = NandConfig(method="nand_plus", plus=PlusConfig(regions=False))
    adapted = add_normality(patchcore, "scratch", model=model, nand=plain, normals=NORMALS)
    session = onnxruntime.InferenceSession(export_onnx(adapted, tmp_path / "b.onnx"))
    pixels = np.asarray(SQUARES[0].resize((320, 320), Image.Resampling.BICUBIC), np.float32).transpose(2, 0, 1)[None]
    final = session.run(["final_map"], {"image": pixels})[0][0]
    np.testing.assert_allclose(final, adapted([SQUARES[0]])[0], atol=2e-3)


# --- doors ------------------------------------------------------------------------------------------------------------------------------


def test_a_port_that_another_program_has(tmp_path):
    NORMALS[0].save(tmp_path / "a.png")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        refused(["explore", tmp_path, "--port", other.getsockname()[1], "--no-browser"], "cannot be used")


@pytest.mark.parametrize(("threads", "gpus"), [(3, 0), (1, 1)])
def test_work_that_no_node_has_room_for(monkeypatch, threads, gpus):
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}]
    monkeypatch.setattr(cluster, "ray", SimpleNamespace(nodes=lambda: nodes))
    with pytest.raises(EngineError, match="no node of the cluster has"):
        cluster.Cluster(None, None, threads, gpus)._check_room()
    with pytest.warns(match="no node of the cluster has .*: waiting for one"):  # it may grow
        cluster.Cluster("10.0.0.1:6379", None, threads, gpus)._check_room()
    cluster.Cluster(None, None, 2, 0)._check_room()


# --- numbers that are none --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [{"seed": -1}, {"strength": float("nan")}, {"persistence": float("inf")}])
def test_fields_without_numbers(more):
    with pytest.raises(DataError, match="seed is a whole number"):
        replace(PerlinAnomaly(), **more)


def test_records_that_are_too_few_or_none(tmp_path):
    with pytest.raises(DataError, match="3 normal records: the 3 nearest of each"):
        NearestRecords.fit(torch.rand(3, 1, 10), 3)
    (tmp_path / "a.npz").write_bytes(b"no archive")
    np.save(tmp_path / "b.npy", np.ones(3))
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    for name, why in (("a", "cannot be read"), ("b", "is one array")):
        with pytest.raises(DataError, match=why):
            read_ecg5000(tmp_path / f"{name}.npz", typed=True)


@pytest.mark.parametrize("box", [(1, 2, 3), (float("nan"), 0, 5, 5)])
def test_boxes_that_are_none(box):
    with pytest.raises(DataError, match="must be four numbers"):
        Example(SQUARES[0], box=box).where(SQUARES[0].size)
