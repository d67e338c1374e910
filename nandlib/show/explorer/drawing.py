"""A box drawn with the mouse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ipycanvas import MultiCanvas, hold_canvas

from nandlib.show.explorer.gallery import SIDE
from nandlib.show.style import OUTLINE

Shares = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom
SMALLEST = 4  # pixels: less is a click


class Drawing(MultiCanvas):
    """A picture in which a box is drawn from corner to corner.

    Args:
        drawn: Called when the mouse is let go, with the box's left and right, and its top and bottom, as shares of the picture's sides.
    """

    def __init__(self, drawn: Callable[[Shares, Shares], None]) -> None:
        super().__init__(2, width=SIDE, height=SIDE, layout={"display": "none", "width": f"{SIDE}px", "cursor": "crosshair"})
        self._drawn = drawn
        self._start: Shares | None = None  # where the mouse went down
        self._seen: np.ndarray | None = None
        self.add_class("nand-drawing")
        self.on_mouse_down(self._down)
        self.on_mouse_move(self._move)
        self.on_mouse_up(self._up)
        self.on_mouse_out(self._up)  # over the picture's edge

    def show(self, picture: np.ndarray | None, box: Box | None) -> None:
        """Show a picture ``(SIDE, SIDE, 3)`` uint8 with a box in its pixels; None: nothing."""
        self.layout.display = "none" if picture is None else None
        if picture is not None and picture is not self._seen:
            self[0].put_image_data(picture)
        self._seen = picture
        if picture is not None and box is not None:
            self._outline(*box)

    def _outline(self, left: float, top: float, right: float, bottom: float) -> None:
        with hold_canvas(self[1]):
            self[1].clear()
            self[1].stroke_style, self[1].line_width = OUTLINE, 2
            self[1].stroke_rect(left, top, right - left, bottom - top)

    def _box(self, start: Shares, x: float, y: float) -> Box:
        """From where the mouse went down to where it is, inside the picture."""
        (left, right), (top, bottom) = (sorted(np.clip(pair, 0, SIDE).tolist()) for pair in zip(start, (x, y), strict=True))
        return left, top, right, bottom

    def _down(self, x: float, y: float) -> None:
        self._start = (x, y)

    def _move(self, x: float, y: float) -> None:
        if self._start is not None:
            self._outline(*self._box(self._start, x, y))

    def _up(self, x: float, y: float) -> None:
        if self._start is None:
            return
        left, top, right, bottom = self._box(self._start, x, y)
        self._start = None
        if min(right - left, bottom - top) >= SMALLEST:
            self._drawn((left / SIDE, right / SIDE), (top / SIDE, bottom / SIDE))
