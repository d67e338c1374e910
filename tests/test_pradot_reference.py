"""PRADOT against values that the official code computed (robintrmbtt/pradot c4b6aa9; no licence: numbers alone)."""

import numpy as np
import pytest
import torch
from regenerated import normal, reference
from torch import Tensor

from nandlib.detectors import pradot_transport as ot
from nandlib.detectors.rebuilt import aligned
from nandlib.errors import PresetError

OFFICIAL = reference("pradot_official")
TOLERANCE = {"rtol": 0, "atol": 2e-5}  # an independent implementation came within 3.8e-6
GRID = (4, 3)
KINDS = {"local2": 2.0, "local1": 1.0, "global_half": 0.5}
ALPHAS = ("0", "0.3")


def patches(seed: int, shape: tuple[int, ...]) -> Tensor:
    """Features like ResNet's, not negative: ``(n, C)`` by image, row, column."""
    return torch.from_numpy(normal(seed, shape)).relu().flatten(2).transpose(1, 2).flatten(0, 1)


def start(seed: int, shape: tuple[int, int]) -> Tensor:
    return torch.from_numpy(normal(seed, shape)).abs()


def run(kind: str, alpha: float, **sinkhorn) -> dict[str, Tensor]:
    """Three batches and a test image."""
    own = ot.prototype_places(GRID, KINDS[kind])
    prototypes, found, losses = start(400, (len(own), 6)), {}, []
    for k, seed in enumerate((410, 411, 412)):
        features, places = patches(seed, (2, 6, 4, 3)), ot.grid_places(GRID).repeat(2, 1)
        matrix = ot.cost(features, prototypes, (places, own), alpha)
        plan = ot.transport(matrix, **sinkhorn)
        centres = ot.barycentres(plan, features)
        losses.append((plan * matrix).sum())
        if k == 0:
            found |= {"cost": matrix, "plan": plan, "barycentres": centres, "loss": losses[0][None]}
            found["barycentre_coordinates"] = ot.barycentres(plan, places)
        prototypes = ot.moved(prototypes, centres)
        if k != 1:
            found[f"prototypes_after_{k + 1}"] = prototypes
    matrix = ot.cost(patches(420, (1, 6, 4, 3)), prototypes, (ot.grid_places(GRID), own), alpha)
    nearest = ot.nearest_cost(matrix)
    found["map"] = aligned(nearest.reshape(1, 1, *GRID), (32, 24))[0, 0]
    found |= {"map_assignment": matrix.argmin(1), "distance": nearest.sum() / len(own)}
    return found | {"losses": torch.stack(losses).double()}


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("kind", KINDS)
def test_training_and_test_by_every_step(kind, alpha):
    for step, value in run(kind, float(alpha)).items():
        torch.testing.assert_close(
            value, OFFICIAL[f"{kind}_alpha{alpha}_{step}"], **TOLERANCE, msg=lambda said, step=step: f"{step}: {said}"
        )


def test_places():
    torch.testing.assert_close(ot.grid_places(GRID), OFFICIAL["grid_coordinates"], **TOLERANCE)
    for kind, per_cell in KINDS.items():
        torch.testing.assert_close(ot.prototype_places(GRID, per_cell), OFFICIAL[f"{kind}_prototype_coordinates"], **TOLERANCE)
    for index, grid, channels in ((2, (28, 28), 512), (3, (14, 14), 1024)):
        for per_cell in (16, 0.25):
            shape = OFFICIAL[f"full_index{index}_prototypes{per_cell}_shape"].tolist()
            assert [len(ot.prototype_places(grid, per_cell)), channels] == shape


def test_the_loop_cut_and_places_that_move():
    for iterations in (1, 2, 10, 11):
        plan = run("local2", 0.3, iterations=iterations)["plan"]
        torch.testing.assert_close(plan, OFFICIAL[f"plan_local2_alpha0.3_iterations{iterations}"], **TOLERANCE)
    free = ot.moved(ot.prototype_places(GRID, 2), run("local2", 0.3)["barycentre_coordinates"])
    free = free.reshape(2, 12, 2).mean(0).repeat(2, 1)  # the prototypes of one cell share one place
    torch.testing.assert_close(free, OFFICIAL["free_structure_local2_coordinates_after_1"], **TOLERANCE)


@pytest.mark.parametrize("alpha, bound", [("0", {"rtol": 1e-5, "atol": 1e-5}), ("0.3", {"rtol": 0, "atol": 3e-3})])
def test_a_larger_one(alpha, bound):
    """48 channels, 14 x 14 cells, four prototypes a cell. α = 0.3: `torch.cdist` of many rows is not exact, and ε = 0.01 shows it."""
    grid = (14, 14)
    own, prototypes, features = ot.prototype_places(grid, 4), start(430, (784, 48)), patches(431, (4, 48, 14, 14))
    matrix = ot.cost(features, prototypes, (ot.grid_places(grid).repeat(4, 1), own), float(alpha))
    plan = ot.transport(matrix)
    centres = ot.barycentres(plan, features)
    prototypes = ot.moved(prototypes, centres)
    test = ot.nearest_cost(ot.cost(patches(432, (1, 48, 14, 14)), prototypes, (ot.grid_places(grid), own), float(alpha)))
    found = {
        "cost": matrix[::29, ::31],
        "plan": plan[::29, ::31],
        "column_sums": plan.sum(0),
        "row_sums": plan.sum(1)[::7],
        "barycentres": centres[::13],
        "loss": (plan * matrix).sum()[None],
        "prototypes_after_1": prototypes[::13],
        "map": aligned(test.reshape(1, 1, *grid), (224, 224))[0, 0, ::4, ::4],
        "map_maximum": aligned(test.reshape(1, 1, *grid), (224, 224)).max(),
    }
    for step, value in found.items():
        torch.testing.assert_close(value, OFFICIAL[f"larger_alpha{alpha}_{step}"], **bound, msg=lambda said, step=step: f"{step}: {said}")


def test_the_plan_is_the_one_of_least_cost():
    """Against scipy's exact assignment: with a small ε the entropic plan comes near it, and its marginals are uniform."""
    from scipy.optimize import linear_sum_assignment

    matrix = torch.rand(12, 12, generator=torch.Generator().manual_seed(0))
    plan = ot.transport(matrix.double(), epsilon=0.002, iterations=20_000)
    exact = matrix.numpy()[linear_sum_assignment(matrix.numpy())].mean()
    assert float((plan * matrix).sum()) == pytest.approx(float(exact), abs=1e-3)
    np.testing.assert_allclose(plan.sum(1), 1 / 12, rtol=1e-6)
    np.testing.assert_allclose(plan.sum(0), 1 / 12, rtol=1e-3)
    with pytest.raises(PresetError, match="epsilon 0.001 is too small"):
        ot.transport(matrix, epsilon=0.001)


def test_the_comparison_notices_a_broken_step(monkeypatch):
    def worst(alpha: str = "0.3") -> float:
        found = run("local2", float(alpha))
        return max(float((found[s] - OFFICIAL[f"local2_alpha{alpha}_{s}"]).abs().max()) for s in ("plan", "barycentres", "map", "cost"))

    def patches_first(matrix, epsilon=0.01, iterations=100):
        log, u, v = -matrix / epsilon, torch.zeros(len(matrix)), torch.zeros(matrix.shape[1])
        for _ in range(iterations):
            u = -np.log(len(u)) - torch.logsumexp(log + v, 1)
            v = -np.log(len(v)) - torch.logsumexp(log + u[:, None], 0)
        return (log + u[:, None] + v).exp()

    broken = {
        "the order of Sinkhorn's updates": ("transport", patches_first),
        "no factor m": ("nearest_cost", lambda matrix: matrix.amin(1)),
        "barycentres divided by the column sums": ("barycentres", lambda plan, values: (plan / plan.sum(0)).T @ values),
        "column before row": ("cost", lambda f, p, at, a, plain=ot.cost: plain(f, p, (at[0].flip(1), at[1]), a)),
        "no maximum": ("cost", lambda *given, plain=ot.cost: plain(*given[:4], (1.0, 1.0))),
        "update the other way round": ("moved", lambda old, new: 0.05 * old + 0.95 * new),
    }
    assert worst() < 2e-5
    for what, (name, wrong) in broken.items():
        with monkeypatch.context() as patch:
            patch.setattr(ot, name, wrong)
            assert worst() > 1e-3, what
