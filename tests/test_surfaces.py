"""Surfaces: clouds are read and refused, normals point outward, Perlin anomalies move what they say they move."""

import json

import numpy as np
import pytest
import tifffile
import trimesh
from typer.testing import CliRunner

from nandlib.cli import app
from nandlib.errors import DataError
from nandlib.surfaces.anomalies import PerlinAnomaly, along_axes, displaced, on_plane, perlin_field
from nandlib.surfaces.clouds import Cloud, as_cloud, read_cloud, write_cloud
from nandlib.surfaces.parts import part

RNG = np.random.default_rng(0)
BALL = trimesh.creation.icosphere(4, 2.0).vertices
SHEET = np.stack([*np.meshgrid(np.linspace(0, 4, 40), np.linspace(0, 3, 30)), np.full((30, 40), 5.0)], -1)


def test_clouds_of_every_kind_are_the_same(tmp_path):
    cloud = as_cloud(BALL)
    for suffix in ("ply", "xyz", "npy"):
        again = read_cloud(write_cloud(cloud, tmp_path / f"ball.{suffix}"))
        np.testing.assert_allclose(again.points, cloud.points, atol=1e-5)
    organised = SHEET.astype(np.float32)
    organised[3, 4] = 0
    organised[5, 6] = np.nan
    tifffile.imwrite(tmp_path / "sheet.tiff", organised)
    found = read_cloud(tmp_path / "sheet.tiff")
    assert len(found) == 30 * 40 - 2 and found.grid is not None and found.grid[3, 4] == found.grid[5, 6] == -1
    np.testing.assert_allclose(found.points[found.grid[10, 20]], SHEET[10, 20], atol=1e-6)
    again = read_cloud(write_cloud(found, tmp_path / "again.npy"))
    np.testing.assert_array_equal(again.points, found.points)
    np.testing.assert_array_equal(again.grid, found.grid)


def test_a_text_of_points_keeps_every_digit(tmp_path):
    """Of clouds in whatever unit; and an OBJ may have tabs."""
    cloud = as_cloud(1e-7 * np.random.default_rng(0).random((50, 3)))
    assert np.array_equal(read_cloud(write_cloud(cloud, tmp_path / "x.xyz")).points, cloud.points)
    (tmp_path / "x.obj").write_text("".join(f"v\t{x!r}\t{y!r}\t{z!r}\n" for x, y, z in cloud.points.tolist()))
    assert np.array_equal(read_cloud(tmp_path / "x.obj").points, cloud.points)


def test_equal_points_are_one():
    """As where a file names a vertex once for every face: a neighbour at no distance would take all weight in a descriptor."""
    points = np.random.default_rng(0).random((40, 3))
    cloud = as_cloud(np.concatenate([points, points[5:20], points]))
    assert np.array_equal(cloud.points, points)
    with pytest.raises(DataError, match="15 different points of 60: a surface needs 16 or more"):
        as_cloud(np.tile(points[:15], (4, 1)))


def test_what_is_no_surface_is_refused(tmp_path):
    for points, message in (
        (np.zeros((0, 3)), "0 usable points"),
        (np.ones((1, 3)), "1 usable points"),
        (np.ones((50, 3)), "all points lie in one place"),
        (7 + np.outer(RNG.normal(size=50), [1, 2, 3]), "all points lie on one line"),
        (np.full((50, 3), np.nan), "0 usable points of 50"),
        (np.zeros((50, 2)), r"expected points \(P, 3\)"),
    ):
        with pytest.raises(DataError, match=message):
            as_cloud(points)
    line = np.linspace(0, 1, 50)[:, None] * [1.0, 2.0, 3.0]
    with pytest.raises(DataError, match="lie on one line"):
        displaced(as_cloud(line))
    (tmp_path / "x.ply").write_text("nothing")
    with pytest.raises(DataError, match=r"x\.ply cannot be read as a cloud"):
        read_cloud(tmp_path / "x.ply")
    (tmp_path / "x.stl").touch()
    with pytest.raises(DataError, match=r"clouds are read from \.ply"):
        read_cloud(tmp_path / "x.stl")
    with pytest.raises(DataError, match=r"y\.ply is missing"):
        read_cloud(tmp_path / "y.ply")
    with pytest.raises(DataError, match="threshold is 1.0"):
        PerlinAnomaly(threshold=1.0)


def test_normals_point_outward_whatever_the_order():
    shuffled = BALL[RNG.permutation(len(BALL))]
    assert ((Cloud(shuffled).normals * shuffled / 2).sum(1) > 0.99).all()
    bent = SHEET.copy()
    bent[..., 2] += 0.3 * np.sin(bent[..., 0])
    slope = 0.3 * np.cos(bent[..., 0])
    expected = np.stack([-slope, np.zeros_like(slope), np.ones_like(slope)], -1)
    expected /= np.linalg.norm(expected, axis=-1, keepdims=True)
    organised = as_cloud(bent)
    for cloud, least in ((organised, 0.9999), (Cloud(organised.points), 0.99)):
        found = cloud.normals.reshape(bent.shape)[2:-2, 2:-2]
        assert (np.abs((found * expected[2:-2, 2:-2]).sum(-1)) > least).all()


def test_an_open_sheet_with_relief_has_one_front():
    """Else a dent of one piece would be a bump of another."""
    up = [float(part("ribbed_sheet", seed, 1500).normals[:, 2].mean()) for seed in range(6)]
    assert min(up) > 0.5


def test_a_plane_is_found_however_it_lies():
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    places = on_plane(along_axes(SHEET.reshape(-1, 3) @ turn.T + 7)[0])
    assert places.min(0) == pytest.approx([0, 0]) and places.max(0) == pytest.approx([1, 1])
    flat = SHEET.reshape(-1, 3)[:, :2] / [4, 3]
    for axis in (0, 1):
        assert abs(np.corrcoef(places[:, axis], flat[:, axis])[0, 1]) > 0.999


def test_octaves_add_detail():
    coarse, fine = perlin_field(PerlinAnomaly(octaves=1)), perlin_field(PerlinAnomaly(octaves=4, persistence=0.8))
    assert coarse.min() == fine.min() == 0 and coarse.max() == fine.max() == 1
    assert np.abs(np.diff(fine)).mean() > 2 * np.abs(np.diff(coarse)).mean()
    assert not np.array_equal(perlin_field(PerlinAnomaly(seed=1)), perlin_field(PerlinAnomaly()))


@pytest.mark.parametrize("strength", [0.05, -0.05])
def test_points_move_along_their_normals_and_nowhere_else(strength):
    cloud, anomaly = as_cloud(SHEET), PerlinAnomaly(seed=2, strength=strength)
    found = displaced(cloud, anomaly)
    offset = found.cloud.points - cloud.points
    assert 0.02 < found.mask.mean() < 0.6
    assert np.abs(offset[~found.mask]).max() == 0 and (np.linalg.norm(offset[found.mask], axis=1) > 0).all()
    assert np.abs(offset[:, :2]).max() < 1e-9, "along the normal of the sheet"
    assert np.abs(found.displacement).max() <= abs(strength) * np.linalg.norm([4, 3]) + 1e-9
    assert (found.displacement[found.mask] * strength > 0).all() and found.cloud.grid is cloud.grid
    again = displaced(cloud, anomaly)
    assert np.array_equal(again.cloud.points, found.cloud.points)


def test_of_a_ball_one_side_is_moved():
    found = displaced(as_cloud(BALL), PerlinAnomaly(seed=1))
    assert found.mask.any() and (BALL[found.mask] @ along_axes(BALL)[1][2] > -0.3).all()
    flat = trimesh.creation.cylinder(2.0, 0.3, sections=64).subdivide().subdivide().subdivide().vertices  # thin, and closed
    moved = flat[displaced(as_cloud(flat), PerlinAnomaly(seed=1)).mask]
    inside = moved[np.hypot(moved[:, 0], moved[:, 1]) < 1.8]
    assert len(inside) and len(set(np.sign(inside[:, 2]))) == 1


@pytest.mark.parametrize("height", [1.0, 2.0, 3.0])
def test_a_relief_that_is_seen_from_one_side_is_moved_however_it_lies(height):
    across, down = np.meshgrid(np.linspace(-1, 1, 50), np.linspace(-1, 1, 40))
    dome = np.stack([5 * across, 4 * down, height * np.cos(across) * np.cos(down)], -1)
    for pose in range(6):
        turn = np.linalg.qr(np.random.default_rng(pose).normal(size=(3, 3)))[0]
        assert displaced(as_cloud(dome @ turn.T)).mask.mean() > 0.02


def test_the_order_of_points_changes_nothing():
    oval = BALL * [3, 2, 1] * (1 + BALL @ [[0.1], [0.07], [0.05]])
    first = displaced(as_cloud(oval)).displacement
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(oval))
        np.testing.assert_allclose(displaced(as_cloud(oval[order])).displacement, first[order], atol=1e-9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": 128},
        {"octaves": 20},
        {"octaves": 10**9},
        {"octaves": 2.0},
        {"scale": 2.5},
        {"lacunarity": 300},
        {"persistence": 1e200},
        {"strength": 0.0},
        {"strength": 1e400},
    ],
)
def test_fields_that_cannot_be_made_are_refused(wrong):
    with pytest.raises(DataError, match="must stay below 128|strength a number but 0, and persistence one from 0 to 1|are whole numbers"):
        PerlinAnomaly(**wrong)
    assert np.isfinite(perlin_field(PerlinAnomaly(scale=31, octaves=3))).all()


def test_a_file_of_two_materials_is_one_cloud(tmp_path):
    corners = "".join(f"v {x} {y} {x * y}\n" for x in range(5) for y in range(5))
    faces = [f"f {k} {k + 1} {k + 6}\n" for k in range(1, 20)]
    (tmp_path / "two.obj").write_text(f"{corners}usemtl a\n{''.join(faces[:9])}usemtl b\n{''.join(faces[9:])}")
    assert len({tuple(point) for point in read_cloud(tmp_path / "two.obj").points}) == 25


def test_on_the_command_line(tmp_path):
    write_cloud(as_cloud(SHEET.reshape(-1, 3)), tmp_path / "part.ply")
    done = CliRunner().invoke(
        app, ["surface", str(tmp_path / "part.ply"), str(tmp_path / "out/bent.ply"), "--seed", "3", "--strength", "0.1"]
    )
    assert done.exit_code == 0, done.output
    said = json.loads((tmp_path / "out/bent.json").read_text())
    mask = np.load(tmp_path / "out/bent_mask.npy")
    expected = displaced(read_cloud(tmp_path / "part.ply"), PerlinAnomaly(seed=3, strength=0.1))
    assert said["seed"] == 3 and said["moved"] == int(mask.sum()) and np.array_equal(mask, expected.mask)
    np.testing.assert_allclose(read_cloud(tmp_path / "out/bent.ply").points, expected.cloud.points, atol=1e-5)
