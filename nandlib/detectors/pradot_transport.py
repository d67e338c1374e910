"""PRADOT's equations (2508.12927): prototypes with places, moved by optimal transport, without gradients.

Written from the paper and from recorded values of the official code, which has no licence: none of it is here. n patches (of all
images of a batch), m prototypes, C channels; places are (row, column) in [0, 1]².
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nandlib.errors import PresetError

EPSILON, ITERATIONS, KEPT = 0.01, 100, 0.95


def _places(rows: Tensor, columns: Tensor) -> Tensor:
    return torch.stack([axis.flatten() for axis in torch.meshgrid(rows, columns, indexing="ij")], 1)


def grid_places(grid: tuple[int, int]) -> Tensor:
    """Places of the cells of a grid ``(h · w, 2)``: from 0 to 1 both ways."""
    return _places(*(torch.linspace(0, 1, side) for side in grid))


def prototype_places(grid: tuple[int, int], per_cell: float) -> Tensor:
    """Places of prototypes ``(m, 2)``: more than one per cell, of which the whole number counts, lie on the cells, all cells once, then all
    again; one or fewer lie on the midpoints of a grid of ⌊h · per_cell⌋ × ⌊w · per_cell⌋."""
    if per_cell > 1:
        return grid_places(grid).repeat(int(per_cell), 1)
    sides = [max(1, int(side * per_cell)) for side in grid]
    return _places(*((torch.arange(side) + 0.5) / side for side in sides))


def costs(features: Tensor, prototypes: Tensor) -> Tensor:
    """1 - cosine of ``(n, C)`` and ``(m, C)``: ``(n, m)``."""
    return 1 - F.normalize(features, dim=1) @ F.normalize(prototypes, dim=1).T


def cost(
    features: Tensor,
    prototypes: Tensor,
    places: tuple[Tensor, Tensor],
    alpha: float,
    scale: tuple[Tensor | float, Tensor | float] | None = None,
) -> Tensor:
    """M = (1 - α) · (1 - cos) / max + α · ‖Δplace‖ / max, ``(n, m)``.

    Args:
        features, prototypes: ``(n, C)`` and ``(m, C)``.
        places: Of both.
        alpha: How much places count.
        scale: The two maxima; None: those of these matrices, as the official code takes them, in training of the batch, at test of
            the single image.
    """
    unlike, apart = costs(features, prototypes), torch.cdist(*places)
    first, second = scale or (unlike.amax(), apart.amax())
    return (1 - alpha) * unlike / first + alpha * apart / second


def transport(matrix: Tensor, epsilon: float = EPSILON, iterations: int = ITERATIONS) -> Tensor:
    """Sinkhorn's plan T ``(n, m)`` between uniform marginals; each iteration ends on the patches' side, whose marginal is exact.

    The official code iterates in the log domain. Costs lie in [0, 1] and ε is 0.01: in float64 the kernel itself does, as a matrix
    product, which is the same plan to rounding in a fraction of the time.

    Raises:
        PresetError: If the kernel would vanish: ε is too small for these costs.
    """
    if float(matrix.amax()) > 600 * epsilon:
        raise PresetError(f"epsilon {epsilon} is too small for costs up to {float(matrix.amax()):.3g}: take at least a 600th of them")
    n, m = matrix.shape
    kernel = (-(matrix.cpu() if matrix.is_mps else matrix).double() / epsilon).exp()  # Apple's devices have no float64
    rows = kernel.new_ones(n)
    for k in range(iterations):
        columns = 1 / m / (rows @ kernel)
        rows = 1 / n / (kernel @ columns)
        if k % 10 == 0 and torch.linalg.norm(columns * (rows @ kernel) - 1 / m) < 1e-9:
            break
    return (rows[:, None] * kernel * columns).to(matrix)


def barycentres(plan: Tensor, values: Tensor) -> Tensor:
    """m · Tᵀ · values: what each prototype is sent, ``(m, C)``; not divided by the plan's own column sums."""
    return plan.shape[1] * plan.T @ values


def moved(prototypes: Tensor, targets: Tensor, kept: float = KEPT) -> Tensor:
    """Prototypes after a batch: a share `kept` of the old, the rest of the barycentres."""
    return kept * prototypes + (1 - kept) * targets


def nearest_cost(matrix: Tensor) -> Tensor:
    """m · the least cost of each patch ``(n,)``: the factor is the official code's, and weighs models with more prototypes more."""
    return matrix.shape[1] * matrix.amin(1)
