"""One pass for all that look at the same images."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class LastAnswer(Generic[T]):
    """What a frozen network said of the batch that it saw last: said again for the same tensor, as long as nobody has written to it.

    What is written past torch's count, through ``.data`` or a NumPy array of the same memory, is not noticed. In inference mode, where
    torch does not count writes, nothing is remembered.
    """

    _last: tuple[Tensor, Hashable, T] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {}  # a copy has seen nothing

    def __call__(self, batch: Tensor, answer: Callable[[], T], how: Hashable = None) -> T:
        """``answer()``, or what it was for this batch, asked in the same way.

        Args:
            batch: The images.
            answer: The network's pass over them.
            how: What else the answer depends on, such as the precision.
        """
        if batch.is_inference() or torch.is_inference_mode_enabled():
            return answer()
        last, state = self._last, (batch._version, batch.requires_grad and torch.is_grad_enabled(), how)
        if last is None or last[0] is not batch or last[1] != state:  # another thread may replace it
            self._last = last = (batch, state, answer())
        return last[2]
