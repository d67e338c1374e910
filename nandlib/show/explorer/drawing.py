"""A box drawn with the mouse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ipycanvas import MultiCanvas, hold_canvas

from nandlib.show.explorer.gallery import SIDE
from nandlib.show.style import OUTLINE

Pair = tuple[float, float]
Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels
SMALLEST = 4  # pixels: less is a click


class Drawing(MultiCanvas):
    """A picture in which a box is drawn from corner to corner.

    Args:
        drawn: Called when the mouse is let go, with the box's left and right, and its top and bottom, as shares of the picture's sides.
    """

    def __init__(self, drawn: Callable[[Pair, Pair], None]) -> None:
        super().__init__(2, width=SIDE, height=SIDE, layout={"display": "none", "width": f"{SIDE}px", "cursor": "crosshair"})
        self._drawn = drawn
        self._start: Pair | None = None  # where the mouse went down
        self._picture: np.ndarray | None = None
        self._box: Box | None = None
        self.add_class("nand-drawing")
        self.on_mouse_down(self._down)
        self.on_mouse_move(self._move)
        self.on_mouse_up(self._up)
        self.on_mouse_out(self._up)  # over the picture's edge
        self.on_client_ready(self._draw)  # a page that was loaded again shows an empty canvas

    def show(self, picture: np.ndarray | None, box: Box | None) -> None:
        """Show a picture ``(SIDE, SIDE, 3)`` uint8 with a box; None: nothing."""
        self.layout.display = "none" if picture is None else None
        self._picture, self._box = picture, box
        self._draw()

    def _draw(self) -> None:
        if self._picture is not None:
            self[0].put_image_data(self._picture)
            self._outline(self._box)

    def _outline(self, box: Box | None) -> None:
        with hold_canvas(self[1]):
            self[1].clear()
            if box is not None:
                left, top, right, bottom = box
                self[1].stroke_style, self[1].line_width = OUTLINE, 2
                self[1].stroke_rect(left, top, right - left, bottom - top)

    def _down(self, x: float, y: float) -> None:
        self._start = (x, y)

    def _move(self, x: float, y: float) -> None:
        if self._start is not None:
            self._outline(_between(self._start, (x, y)))

    def _up(self, x: float, y: float) -> None:
        if self._start is None:
            return
        left, top, right, bottom = _between(self._start, (x, y))
        self._start = None
        if min(right - left, bottom - top) >= SMALLEST:
            self._drawn((left / SIDE, right / SIDE), (top / SIDE, bottom / SIDE))
        self._outline(self._box)  # what holds now: after a click, what was there before


def _between(start: Pair, end: Pair) -> Box:
    """From corner to corner, inside the picture."""
    (left, right), (top, bottom) = (sorted(np.clip(pair, 0, SIDE).tolist()) for pair in zip(start, end, strict=True))
    return left, top, right, bottom
