"""Clouds as files hold them: cells without a point, meshes, texts with a head, coordinates far from the origin, scans in other units."""

import numpy as np
import pytest
import tifffile
from test_surface_study import scans  # noqa: F401
from tiny_project import ROOT
from typer.testing import CliRunner

from nandlib.cli import app
from nandlib.errors import DataError, PresetError
from nandlib.evaluation.surface_areas import surface_areas
from nandlib.study.open_kind import load_kind
from nandlib.surfaces.clouds import Cloud, as_cloud, read_cloud, write_cloud
from nandlib.surfaces.config import ScannedParts, SurfaceStudy
from nandlib.surfaces.made_up import made_up
from nandlib.surfaces.parts import part
from nandlib.surfaces.samples import scan, split_of


def sheet(side=12):
    rows, columns = np.meshgrid(np.arange(side) + 1.0, np.arange(side) + 1.0, indexing="ij")
    return np.stack([columns, rows, np.sin(columns)], -1)


@pytest.mark.parametrize("nothing", [-1.0, 9999.0, 0.0, np.nan])
def test_cells_that_hold_the_same_hold_nothing(nothing):
    grid = sheet()
    grid[3:5, 3:6] = nothing
    cloud = as_cloud(grid)
    assert len(cloud) == 144 - 6 and (cloud.grid[3:5, 3:6] == -1).all() and cloud.points.max() < 13


def test_an_origin_that_is_there_often_is_none():
    points = sheet().reshape(-1, 3)
    assert len(as_cloud(np.concatenate([points, np.zeros((40, 3))]))) == 144
    assert len(as_cloud(np.concatenate([points, np.zeros((1, 3))]))) == 145


@pytest.mark.parametrize("head", ["", "# x y z\n", "x, y, z\n", "144\n"])
def test_a_text_may_have_a_head(tmp_path, head):
    points = sheet().reshape(-1, 3)
    rows = "".join(",".join(map(repr, map(float, own))) + ",0.5\n" for own in points)
    (tmp_path / "own.xyz").write_text(head + rows)
    np.testing.assert_array_equal(read_cloud(tmp_path / "own.xyz").points, points)


def test_every_vertex_of_an_obj_counts(tmp_path):
    points = sheet().reshape(-1, 3)
    (tmp_path / "own.obj").write_text("".join("v {} {} {}\n".format(*own) for own in points) + "vn 0 0 1\nf 1 2 3\n")
    assert len(read_cloud(tmp_path / "own.obj")) == len(points)
    (tmp_path / "box.ply").write_bytes(__import__("trimesh").creation.box().export(file_type="ply"))
    with pytest.raises(DataError, match="a mesh, of which vertices are read"):
        read_cloud(tmp_path / "box.ply")


def test_coordinates_that_a_file_would_round(tmp_path):
    far = Cloud(sheet().reshape(-1, 3) * 0.1 + [4e5, 5.4e6, 0])
    with pytest.raises(DataError, match="which would round these coordinates by 0.5: write .npy or .xyz"):
        write_cloud(far, tmp_path / "far.ply")
    np.testing.assert_array_equal(read_cloud(write_cloud(far, tmp_path / "far.npy")).points, far.points)


def test_a_cloud_is_not_written_over_itself(tmp_path):
    path = write_cloud(part("torus", 0, 500), tmp_path / "own.npy")
    kept = path.read_bytes()
    found = CliRunner().invoke(app, ["surface", str(path), str(path)])
    assert isinstance(found.exception, DataError) and "which would be lost" in str(found.exception) and path.read_bytes() == kept


def test_the_mask_of_an_organised_cloud_has_its_form(tmp_path):
    grid = sheet(40)
    grid[:3] = 0
    np.save(tmp_path / "own.npy", grid)
    assert CliRunner().invoke(app, ["surface", str(tmp_path / "own.npy"), str(tmp_path / "out.npy")]).exit_code == 0
    mask, moved = np.load(tmp_path / "out_mask.npy"), np.load(tmp_path / "out.npy")
    assert mask.shape == (40, 40) and not mask[:3].any()
    assert ((np.abs(moved - grid).max(-1) > 1e-9)[3:] == mask[3:]).all() and mask.any()


def test_scans_in_millimetres_and_without_an_object_are_named(scans, tmp_path):  # noqa: F811
    path = next(scans.rglob("train/good/xyz/*.tiff"))
    tifffile.imwrite(tmp_path / "mm.tiff", tifffile.imread(path) * 1000)
    with pytest.raises(DataError, match="coordinates must be metres"):
        scan(tmp_path / "mm.tiff", 500)
    rows, columns = np.meshgrid(np.linspace(0.1, 0.3, 60), np.linspace(0.1, 0.3, 60), indexing="ij")
    tifffile.imwrite(tmp_path / "plate.tiff", np.stack([columns, rows, np.full_like(rows, 0.5)], -1))
    with pytest.raises(DataError, match="lie in the plane of the rim, which is taken for the table"):
        scan(tmp_path / "plate.tiff", 500)
    name = path.relative_to(scans).parts[0]
    with pytest.raises(DataError, match=f"no class '{name}x'.*{name}"):
        split_of(name + "x", ScannedParts(layout="mvtec_3d", root=scans), scans)


def test_a_study_of_scans_names_its_classes():
    with pytest.raises(ValueError, match="name the classes of the data set"):
        SurfaceStudy(kind="surfaces", name="own", title="t", data={"layout": "mvtec_3d", "root": "x"})
    assert "bagel" in load_kind("mvtec_3d", ROOT).parts


def test_masks_that_lie_beside_all_points_leave_objects(scans):  # noqa: F811
    name = next(scans.rglob("train/good/xyz")).relative_to(scans).parts[0]
    split = split_of(name, ScannedParts(layout="mvtec_3d", root=scans), scans)
    for own in split.test:
        own.mask[:] = False
    objects, points = surface_areas(split, [__import__("torch").rand(len(own.cloud)) for own in split.test])
    assert 0 <= objects <= 100 and np.isnan(points)


def test_parts_and_surfaces_that_there_are_not():
    with pytest.raises(DataError, match="no part 'toru': did you mean 'torus'"):
        part("toru", 0)
    with pytest.raises(DataError, match="two or more"):
        made_up([part("torus", 0, 300)])


def test_a_study_of_another_kind_says_how_it_is_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in (["study", "run", "ptbxl"], ["use", "studies/kinds/parts.yaml"]):
        found = CliRunner().invoke(app, words)
        kind, item = ("signals", "heartbeat") if "ptbxl" in words else ("surfaces", "surface")
        assert isinstance(found.exception, PresetError) and f"nand {kind} " in str(found.exception)
        assert f"nand notebook {item} " in str(found.exception)
    assert "nand signals ptbxl" in CliRunner().invoke(app, ["study", "list"]).stdout
