"""Surfaces as a study: parts and faults, histograms against plain steps, the memory, normality by example, scans, and the stage."""

import re
import shutil

import numpy as np
import pytest
import tifffile
import torch
import trimesh
from PIL import Image
from tiny_project import ROOT

from nandlib.data.config import DataConfig
from nandlib.data.groups import Grouping
from nandlib.data.manifest import build_manifest
from nandlib.errors import DataError, PresetError
from nandlib.evaluation.protocol import auroc
from nandlib.evaluation.surface_areas import surface_areas
from nandlib.evaluation.surface_selection import COLUMNS, EXAMPLE_COLUMNS, best_memory, best_shown, chosen_memory, select_shown
from nandlib.show import surface_pictures
from nandlib.show.report import write_kind_report
from nandlib.signals.config import SignalStudy
from nandlib.stages.surfaces import write_surfaces
from nandlib.study.frames import read_table
from nandlib.study.open_kind import load_kind, open_kind
from nandlib.study.place import Place
from nandlib.surfaces.clouds import Cloud, as_cloud
from nandlib.surfaces.config import DrawnParts, MemoryConfig, ScannedParts, SurfaceStudy
from nandlib.surfaces.contest import ScoredSurfaces, SurfaceContest
from nandlib.surfaces.descriptors import BINS, described, fpfh, histograms
from nandlib.surfaces.faults import FAULTS, faulty
from nandlib.surfaces.made_up import TYPES, made_up
from nandlib.surfaces.memory import SurfaceMemory
from nandlib.surfaces.parts import PARTS, net, part
from nandlib.surfaces.samples import scan, split_of
from nandlib.surfaces.shown import climbing

BALL = as_cloud(trimesh.creation.icosphere(3, 2.0).vertices)
SMALL = DrawnParts(layout="drawn", points=700, n_train=4, n_good=3, n_fault=6)


@pytest.fixture(scope="module")
def one():
    split = split_of("torus", SMALL, ROOT)
    return SurfaceContest("torus", ScoredSurfaces(split, SurfaceMemory.fit(split.train, MemoryConfig(coreset_ratio=0.2)), 32))


def test_a_flat_sheet_faces_one_way():
    sheet = np.stack([*np.meshgrid(np.arange(20.0), np.arange(15.0)), np.zeros((15, 20))], -1)
    for cloud in (as_cloud(sheet), as_cloud(sheet.reshape(-1, 3) + 3)):
        assert len(np.unique(np.round(cloud.normals[:, 2]))) == 1


def test_what_lies_in_front_does_not_tilt_the_surfaces_beside_its_edge():
    """An organised scan steps from a bolt's flat head to the plate behind it."""
    rows, columns = np.meshgrid(np.arange(20.0), np.arange(30.0), indexing="ij")
    head = (slice(6, 14), slice(8, 20))
    height = np.zeros_like(rows)
    height[head] = 40.0
    cloud = as_cloud(np.stack([columns + 1, rows + 1, height + 1], -1))
    assert (np.abs(cloud.normals[:, 2]) > 0.999).all()
    one_row = as_cloud(np.stack([columns[0] + 1, np.sin(columns[0]), np.ones(30)], -1)[None])
    assert np.isfinite(one_row.normals).all()


def test_the_inside_of_a_ring_faces_inward():
    cloud = part("torus", 0, 3000)
    middle = cloud.points * [1, 1, 0]
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    assert ((cloud.normals * (cloud.points - middle)).sum(1) > 0).mean() > 0.99


@pytest.mark.parametrize("name", PARTS)
def test_parts_are_closed_bodies_that_vary(name):
    rings, closed = PARTS[name]
    mesh = trimesh.Trimesh(**trimesh.triangles.to_kwargs(net(rings(float), closed)))
    mesh.merge_vertices()
    mesh.update_faces(mesh.nondegenerate_faces())
    assert mesh.is_watertight == (name != "ribbed_sheet")
    first, again, other = part(name, 1, 500), part(name, 1, 500), part(name, 2, 500)
    assert np.array_equal(first.points, again.points) and not np.array_equal(first.points[:50], other.points[:50])
    assert np.abs(np.ptp(first.points, 0) / np.ptp(other.points, 0) - 1).max() < 0.15


@pytest.mark.parametrize("name", FAULTS)
def test_faults_change_what_is_marked_and_nothing_else(name):
    cloud = part("gear", 3, 2000)
    found, mask = faulty(cloud, name, [5])
    assert 0.001 < mask.mean() < 0.6 and len(mask) == len(found)
    if name == "hole":
        assert len(found) < len(cloud) and {tuple(p) for p in found.points} < {tuple(p) for p in cloud.points}
        return
    moved = np.linalg.norm(found.points - cloud.points, axis=1)
    assert (moved[mask] > 0).all()
    if name == "bend":  # below a share of the diagonal nothing is marked
        assert moved[mask].min() > moved[~mask].max()
        return
    assert moved[~mask].max() == 0
    sign = ((found.points - cloud.points) * cloud.normals).sum(1)[mask]
    assert (sign > 0).all() if name == "bump" else (sign < 0).all()


def test_histograms_by_hand():
    found = histograms(np.array([[0.0, 0.5, 1.0, 0.5]]), 2)
    np.testing.assert_allclose(found, [[0.5, 0.5]])
    np.testing.assert_allclose(histograms(np.array([[0.25, 0.75]]), 2), [[0.5, 0.5]])
    np.testing.assert_allclose(histograms(np.array([[0.375]]), 2), [[0.75, 0.25]])


def test_histograms_of_points_by_plain_steps():
    """The definition of Rusu, Blodow and Beetz (2009), one point and one pair at a time."""
    rng = np.random.default_rng(0)  # no two points lie equally far
    cloud, k = Cloud(BALL.points[:60] * [1, 1.3, 0.8] + 0.02 * rng.normal(size=(60, 3))), 5
    normals = cloud.normals
    away = np.linalg.norm(cloud.points[:, None] - cloud.points, axis=2)

    def simple(p: int) -> np.ndarray:
        rows = []
        for q in away[p].argsort()[1 : k + 1]:
            d = (cloud.points[q] - cloud.points[p]) / away[p, q]
            u = normals[p]
            v = np.cross(u, d)
            v /= np.linalg.norm(v)
            w = np.cross(u, v)
            rows.append([(v @ normals[q] + 1) / 2, (u @ d + 1) / 2, (np.arctan2(w @ normals[q], u @ normals[q]) / np.pi + 1) / 2])
        return np.concatenate([histograms(np.array([values]))[0] for values in np.array(rows).T])

    expected = []
    for p in range(60):
        near = away[p].argsort()[1 : k + 1]
        weights = 1 / away[p, near] / (1 / away[p, near]).sum()
        expected.append(simple(p) + sum(weight * simple(q) for weight, q in zip(weights, near, strict=True)))
    np.testing.assert_allclose(fpfh(cloud, k), expected, atol=1e-4)
    assert fpfh(cloud, k).shape == (60, 3 * BINS)


def test_descriptors_do_not_know_the_pose():
    cloud, turn = part("bracket", 0, 600), np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    (first, second) = described([cloud, Cloud(cloud.points @ turn.T * 3 + 10)], (16, 32))
    assert first.shape == (len(cloud), 66)
    assert float((first - second).abs().median()) < 1e-4 and float((first - second).abs().mean()) < 0.01


def test_a_map_is_the_distance_to_the_nearest_normal_descriptor(one):
    split, detector = one.tested.split, one.tested.detector
    cloud = split.test[4].cloud
    (own,) = described([cloud], (32,))
    plain = np.array([np.linalg.norm(detector.memory.numpy() - row, axis=1).min() for row in own.numpy()])
    trained = torch.cat([detector.distances(known) for known in described(split.train, (32,))])
    assert detector.floor == pytest.approx(float(trained.median())) and detector.floor > 0
    np.testing.assert_allclose(detector.map(cloud), np.clip(plain - detector.floor, 0, None), atol=1e-3)
    wide = SurfaceMemory(detector.memory, MemoryConfig(smooth=3)).map(cloud).numpy()
    near = np.linalg.norm(cloud.points[:, None] - cloud.points, axis=2).argsort(1)[:, :3]
    np.testing.assert_allclose(wide, plain[near].mean(1), atol=1e-3)


def test_every_point_climbs_to_a_peak(one):
    surface, anomaly = one.tested.split.test[5], one.tested.maps[5].numpy()
    labels = climbing(surface.cloud, anomaly, 16)
    near = np.linalg.norm(surface.cloud.points[:, None] - surface.cloud.points, axis=2).argsort(1)[:, :16]
    for start in range(0, len(labels), 50):
        place = start
        while (up := near[place][anomaly[near[place]].argmax()]) != place:
            assert labels[up] == labels[start]
            place = up
    assert 1 < labels.max() + 1 < len(labels) / 4


def test_examples_damp_their_own_kind_and_scores_are_maxima(one):
    own = np.flatnonzero(one.groups == "bump")
    before, after = one.scores("nothing", "bump", ()), one.scores("examples", "bump", own[:2])
    np.testing.assert_allclose(after, [float(final.max()) for final in one.final("examples", own[:2])], rtol=1e-6)
    assert (after <= before + 1e-6).all() and (after[own[:2]] < before[own[:2]]).all()
    for k in own[:2]:  # where the example shows it; what is left is as high as good surfaces are
        peak = int(one.tested.maps[k].argmax())
        assert float(one.final("examples", own[:2])[k][peak]) < 0.01 * float(one.tested.maps[k][peak])
    removed = 1 - after / before
    assert removed[own[2:]].mean() > 2 * removed[(one.groups != "bump") & (one.groups != "good")].mean()
    bank = one.scores("bank", "bump", own[:2])
    np.testing.assert_allclose(bank, [float(final.max()) for final in one.final("bank", own[:2])], rtol=1e-6)
    assert (bank <= before + 1e-6).all() and one.added == list(FAULTS)


def test_areas_by_plain_steps(one):
    split, maps = one.tested.split, one.tested.maps
    label, scores = split.groups != "good", [float(own.max()) for own in maps]
    points = np.concatenate([own.mask for own in split.test])
    assert surface_areas(split, maps) == (auroc(label, scores), auroc(points, torch.cat(maps)))
    dents, _ = surface_areas(split, maps, "dent")
    kept = (split.groups == "good") | (split.groups == "dent")
    assert dents == auroc(label[kept], np.array(scores)[kept])


def test_choices_are_made_on_training_surfaces_by_the_rules():
    normals = split_of("torus", SMALL, ROOT).train
    split = made_up(normals, 2)
    assert split.train == normals[:2] and split.types == list(TYPES)
    assert [own.cloud for own in split.test[:2]] == normals[2:]
    assert all(own.mask.any() for own in split.test[2:])
    thin = made_up([Cloud(own.points[::100]) for own in normals], 6)  # a small area may lie between the points
    assert all(own.mask.any() for own in thin.test[2:])
    for name, columns, best in (("selection", COLUMNS, best_memory), ("examples", EXAMPLE_COLUMNS, best_shown)):
        table = read_table(ROOT / f"figures/parts/{name}.csv")
        assert list(table.columns) == columns and table.index[table["chosen"]].tolist() == [best(table)]
    study = load_kind("parts", ROOT)
    assert isinstance(study, SurfaceStudy)
    row = read_table(ROOT / "figures/parts/examples.csv").query("chosen").iloc[0]
    assert study.tuned == chosen_memory(read_table(ROOT / "figures/parts/selection.csv"))
    assert (study.examples.similarity, study.examples.sharpness, study.reach) == (row["similarity"], row["sharpness"], row["reach"])


def test_a_choice_on_a_part(monkeypatch):
    from nandlib.evaluation import surface_selection

    for name, value in (("SIMILARITIES", (0.5, 0.9)), ("SHARPNESSES", (20.0,)), ("REACHES", (32,)), ("KS", (1,)), ("DRAWS", 1)):
        monkeypatch.setattr(surface_selection, name, value)
    monkeypatch.setattr(surface_selection, "EXAMPLE_COLUMNS", [name for name in EXAMPLE_COLUMNS if name != "share_4"])
    table = select_shown({"torus": split_of("torus", SMALL, ROOT).train}, MemoryConfig(coreset_ratio=0.2), progress=False)
    assert len(table) == 2 and table["chosen"].sum() == 1 and table["share"].notna().all()


@pytest.fixture
def scans(tmp_path):
    """A made-up class in MVTec 3D-AD's layout: a dome on a table, and where it is dented."""
    rows, columns = np.mgrid[:80, :100]
    away = np.hypot(rows - 40, columns - 50)
    dome = np.where(away < 25, np.sqrt(np.clip(30.0**2 - away**2, 0, None)) - 16, 0) / 1000
    for split, kind, count in (("train", "good", 4), ("test", "good", 2), ("test", "dent", 2), ("test", "combined", 1)):
        for folder in ("xyz", "rgb", "gt"):
            (tmp_path / "dome" / split / kind / folder).mkdir(parents=True)
        for number in range(count):
            rng = np.random.default_rng([number, *kind.encode()])
            mask = (np.hypot(rows - 36, columns - 56) < 6) & (kind != "good")
            grid = np.stack([columns / 1000, rows / 1000, 0.5 - dome + 0.004 * mask + rng.normal(0, 5e-5, away.shape)], -1)
            grid[away > 60] = 0  # nothing was measured there
            base = tmp_path / "dome" / split / kind
            tifffile.imwrite(base / f"xyz/{number:03d}.tiff", grid.astype(np.float32))
            Image.fromarray((255 * mask).astype(np.uint8)).save(base / f"gt/{number:03d}.png")
            Image.fromarray(np.full((80, 100, 3), 90, np.uint8)).save(base / f"rgb/{number:03d}.png")
    return tmp_path


def test_scans_lose_their_table_and_keep_their_masks(scans):
    split = split_of("dome", ScannedParts(layout="mvtec_3d", root=scans, points=256), scans)
    assert len(split.train) == 4 and split.groups.tolist() == ["", "dent", "dent", "good", "good"] and split.types == ["dent"]
    dent = split.test[1]
    assert dent.cloud.points[:, 2].max() < 0.4951 and dent.cloud.grid is not None, "the table lies at half a metre"
    assert dent.mask.any() and np.hypot(*(1000 * dent.cloud.points[dent.mask][:, :2] - [56, 36]).T).max() < 6.5
    tested = ScoredSurfaces(split, SurfaceMemory.fit(split.train, MemoryConfig(neighbours=(12,), coreset_ratio=0.5)), 16)
    objects, points = surface_areas(split, tested.maps)
    assert objects == 100 and points > 80
    tifffile.imwrite(scans / "flat.tiff", np.zeros((5, 5), np.float32))
    with pytest.raises(DataError, match=r"flat\.tiff: expected an organised cloud"):
        scan(scans / "flat.tiff", 10)
    with pytest.raises(DataError, match=r"no class 'cube': Valid: dome.*must be MVTec 3D-AD"):
        split_of("cube", ScannedParts(layout="mvtec_3d", root=scans), scans)


def test_without_a_table_nothing_of_an_object_is_taken_for_one(scans):
    """Scans that are cut out have nothing around them: what touches the rim in places is the object."""
    path = scans / "dome/test/dent/xyz/000.tiff"
    grid = tifffile.imread(path)
    rows, columns = np.indices(grid.shape[:2])
    grid[np.hypot(rows - 40, columns - 50) > 42] = 0  # two small places of the rim are left
    tifffile.imwrite(path, grid)
    measured = (grid != 0).any(2)
    cloud, cells, size = scan(path, int(measured.sum()))
    assert size == (80, 100) and len(cloud) == len(cells) == measured.sum()


def test_cells_that_hold_one_point_leave_the_others_in_their_places(scans):
    path = scans / "dome/test/dent/xyz/000.tiff"
    grid = tifffile.imread(path)
    row, column = np.argwhere(np.abs(grid[..., 2] - grid[..., 2].max()) < 1e-9)[0]
    grid[row, column + 1] = grid[row, column]
    tifffile.imwrite(path, grid)
    cloud, cells, _ = scan(path, 10**6)
    assert len(cloud) == len(cells) and np.allclose(grid[tuple(cells.T)], cloud.points)


def test_a_mask_of_another_size_is_named(scans):
    Image.new("L", (50, 40)).save(scans / "dome/test/dent/gt/001.png")
    with pytest.raises(DataError, match=r"gt/001\.png has \(40, 50\) pixels, its scan \(80, 100\)"):
        split_of("dome", ScannedParts(layout="mvtec_3d", root=scans, points=256), scans)


def test_a_memory_of_nothing_is_refused(one):
    with pytest.raises(DataError, match="no normal surfaces"):
        SurfaceMemory.fit([])
    with pytest.raises(DataError, match="a share of 0.0001 of .* normal points is none"):
        SurfaceMemory.fit(one.tested.split.train[:1], MemoryConfig(coreset_ratio=0.0001))


def test_their_photographs_run_through_the_ordinary_manifest(scans):
    for layout in ("mvtec_3d", "auto"):
        frame, notes = build_manifest(scans, DataConfig(root=scans, layout=layout), Grouping("types", None), progress=False)
        assert frame["image"].tolist()[0] == "dome/train/good/rgb/000.png" and len(frame) == 4 + 5 and len(notes) == 2
        assert frame.groupby("type", sort=False)["group"].first().to_dict() == {"good": "good", "combined": "", "dent": "dent"}
        dents = frame[frame["type"] == "dent"]
        assert dents["mask"].tolist() == [f"dome/test/dent/gt/00{k}.png" for k in (0, 1)] and (dents["mask_area"] > 0).all()


def test_a_whole_study(tmp_path):
    (tmp_path / "studies/kinds").mkdir(parents=True)
    text = (
        "kind: surfaces\nname: toy\ntitle: Toy parts\nparts: [torus, gear]\ndraws: 1\ntuned: {neighbours: [48]}\n"
        "data: {layout: drawn, points: 500, n_train: 4, n_good: 2, n_fault: 5}\n"
    )
    (tmp_path / "studies/kinds/toy.yaml").write_text(text)
    study = open_kind("toy", tmp_path, SurfaceStudy)
    write_surfaces(study, progress=False)
    objects = study.table("objects")
    assert objects["part"].tolist() == ["torus", "torus", "gear", "gear"] and objects["n_faulty"].tolist() == [25] * 4
    split = split_of("gear", study.config.data, tmp_path)
    maps = [SurfaceMemory.fit(split.train, study.config.tuned).map(own.cloud) for own in split.test]
    assert tuple(objects.iloc[3][["auroc_object", "auroc_point"]]) == pytest.approx(surface_areas(split, maps))
    assert set(study.table("kshot")["k"]) == {1} and set(study.table("summary")["method"]) == {"nothing", "examples", "bank"}
    first = {path: path.read_bytes() for folder in (study.figures, study.data) for path in folder.iterdir()}
    write_surfaces(study, progress=False)
    assert {path: path.read_bytes() for path in first} == first
    assert surface_pictures.areas_figure(objects, study.table("types")).axes[1].lines
    with pytest.raises(PresetError, match="toy is a study of surfaces: 'nand surfaces toy'"):
        open_kind("toy", tmp_path, SignalStudy)
    (tmp_path / "studies/kinds/toy.yaml").write_text(text.replace("torus", "donut").replace("n_train: 4", "n_train: 1"))
    with pytest.raises(PresetError, match=r"toy\.yaml: key 'data\.drawn\.n_train'"):
        open_kind("toy", tmp_path, SurfaceStudy)
    with pytest.raises(DataError, match="no part 'donut'"):
        split_of("donut", SMALL, tmp_path)


def test_what_is_seen_from_a_side():
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    front = surface_pictures.seen(points, (0, -1, 0))
    np.testing.assert_allclose(front[1] - front[0], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(front[3] - front[0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(front[2] - front[0], [0, 0, -1], atol=1e-12)
    mask = np.zeros(len(BALL), bool)
    mask[BALL.points[:, 0] > 1.8] = True
    assert surface_pictures.towards(BALL.points, mask)[0] > 0.8


def test_its_report_is_one_page_that_needs_no_network(tmp_path):
    for name in ("studies/kinds/parts.yaml", "figures/parts/surface/18_surface_faults.ipynb", "notebooks/18_surface_faults.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    place = Place(tmp_path, load_kind("parts", tmp_path))
    page = write_kind_report(place).read_text()
    assert page.count("<section") == 1 and page.count("data:image/png;base64,") == 4 and "At a glance" not in page
    assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//[^"']*\.(js|css)|@import|<script[^>]+src""", page) and len(page) < 3e6
    (tmp_path / "figures/parts/surface/18_surface_faults.ipynb").unlink()
    with pytest.raises(DataError, match="18_surface_faults.ipynb is missing"):
        write_kind_report(place)


def test_no_two_faults_have_the_same_measures(monkeypatch):
    """Neither of one part nor of two: their test objects are taken as independent."""
    seen = []
    monkeypatch.setattr("nandlib.surfaces.samples.faulty", lambda *given: seen.append((given[1], *given[2])) or faulty(*given))
    for name in ("torus", "bracket"):
        split_of(name, SMALL, ROOT)
    assert len(seen) == len(set(seen)) == 2 * 5 * SMALL.n_fault
