"""Accept with a click: the images with the highest scores, each with a button, and the list of what is accepted."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from contextlib import suppress

import ipywidgets as w
import numpy as np
import torch
import torch.nn.functional as F

from nandlib.errors import NandError
from nandlib.show.explorer.answer import Answer, Exploration, Pick
from nandlib.show.explorer.drawing import Drawing
from nandlib.show.explorer.gallery import SIDE
from nandlib.show.explorer.page import outlined, png

SHOWN, THUMB = 8, 128  # images at a time, and their side
PAUSE = 0.1  # seconds between two pictures that are looked at ahead, in which clicks are answered
HELP = """<b>Or show it</b>: the images with the highest scores, the region outlined that is highest. <b>This is fine</b> makes it an
example of what counts as normal, and every region of every image that differs from normal in the same way is damped. For the image
above, a box may be given instead of its highest region: draw it with the mouse, or move the sliders. Look at what else has faded:
an example does not say what was meant."""


class Accept(w.VBox):
    """Buttons that accept images as examples, the list of those that are accepted, and undo.

    Args:
        changed: Called when the list has changed.
        guarded: Wraps an action so that its errors become a message.
    """

    def __init__(self, changed: Callable[[], None], guarded: Callable[[Callable[[], None]], Callable[[object], None]]) -> None:
        self.picks: list[Pick] = []
        self._next: asyncio.TimerHandle | None = None
        self._changed, self._first = changed, 0
        self._thumbs = [w.Image(format="png", layout={"width": "100%", "max_width": f"{THUMB}px"}) for _ in range(SHOWN)]
        self._captions = [w.HTML() for _ in range(SHOWN)]
        self.fine = [w.Button(description="this is fine", layout={"width": "auto"}) for _ in range(SHOWN)]
        self._cells = [
            w.VBox(cell, layout={"width": f"{THUMB + 8}px"}) for cell in zip(self._thumbs, self._captions, self.fine, strict=True)
        ]
        self.more = w.Button(description="next ones", layout={"width": "auto"})
        self.undo = w.Button(description="undo", disabled=True, layout={"width": "auto"})
        self.boxed = w.Checkbox(description="a box", indent=False, layout={"width": "auto"})
        self.drawing = Drawing(self._mark)
        sides = {"min": 0, "max": 100, "step": 1, "readout_format": ".0f", "layout": {"width": "250px"}}
        self.across = w.FloatRangeSlider(value=(25, 75), description="across %", **sides)
        self.down = w.FloatRangeSlider(value=(25, 75), description="down %", **sides)
        self.fine_above = w.Button(description="the image above is fine", layout={"width": "auto"})
        self._list = w.HTML()
        for k, button in enumerate(self.fine):
            button.on_click(guarded(lambda k=k: self.accept(Pick(self._order[self._first + k]))))  # type: ignore[misc]
        self.undo.on_click(guarded(self.take_back))
        self.more.on_click(guarded(self._turn))
        row = w.Layout(display="flex", flex_flow="row wrap", align_items="flex-start", width="100%")
        super().__init__(
            [
                w.HTML(f"<div class='nand-note'>{HELP}</div>"),
                w.Box(self._cells, layout=row),
                w.Box([self.more, self.fine_above, self.boxed, self.across, self.down], layout=row),
                self.drawing,
                w.Box([self.undo, self._list], layout=row),
            ]
        )
        self.add_class("nand-accept")
        for cell in self._cells:
            cell.add_class("nand-thumb")

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """What the sliders mark in the picture, in its pixels; None unless a box is wanted."""
        if not self.boxed.value:
            return None
        (left, right), (top, bottom) = (tuple(SIDE * side / 100 for side in control.value) for control in (self.across, self.down))
        return left, top, right, bottom

    @property
    def drawn(self) -> tuple[float, float, float, float] | None:
        """`box`, where it holds anything."""
        box = self.box
        return box if box and box[0] < box[2] and box[1] < box[3] else None

    @property
    def names(self) -> list[str]:
        """Of what is accepted."""
        return [self._exploration.gallery.names[pick.index] + (" (a box)" if pick.box else "") for pick in self.picks]

    def _mark(self, across: tuple[float, float], down: tuple[float, float]) -> None:
        """A box was drawn: shares of the picture's sides."""
        self.across.value, self.down.value = (tuple(round(100 * side) for side in pair) for pair in (across, down))

    def look_at(self, index: int) -> None:
        """Another image above: the one in which a box is drawn."""
        self.drawing.show(self._exploration.gallery.pictures[index] if self.boxed.value else None, self.drawn)

    def look(self, exploration: Exploration, anew: bool) -> None:
        """Another detector, method or gallery; `anew` forgets what was accepted."""
        self._exploration, self._first = exploration, 0
        self._order = [int(k) for k in np.argsort(-exploration.base.amax((1, 2)).numpy(), kind="stable")]
        self.picks = [] if anew else self.picks
        self.layout.display = "none" if exploration.gallery.residuals is None else None

    def accept(self, pick: Pick) -> None:
        """One more example.

        Raises:
            DataError: If it shows nothing, or is accepted already.
        """
        self._exploration.check_pick(pick, self.picks)
        self.picks = [*self.picks, pick]
        self._changed()

    def take_back(self) -> None:
        """The last example is none any more."""
        self.picks = self.picks[:-1]
        self._changed()

    def show(self, answer: Answer) -> None:
        """Scores before and after, and the list."""
        self._answer, gallery = answer, self._exploration.gallery
        accepted = {pick.index for pick in self.picks if pick.box is None}
        for place, caption in enumerate(self._captions):
            here = self._first + place
            self._cells[place].layout.display = None if here < len(self._order) else "none"
            if here < len(self._order):
                k = self._order[here]
                caption.value = f"{html.escape(gallery.names[k])}<br>{answer.before[k]:.3f} → <b>{answer.after[k]:.3f}</b>"
                self.fine[place].disabled, self.fine[place].tooltip = k in accepted, f"{gallery.names[k]} is fine"
        self.undo.disabled = not self.picks
        names = self.names
        self._list.value = "<div class='nand-note nand-accepted'>" + (
            f"Accepted: {html.escape('; '.join(names))}</div>" if names else "Nothing is accepted by example.</div>"
        )

    def draw(self) -> None:
        """The pictures, with the region outlined that a click accepts."""
        if self._exploration.gallery.residuals is None:
            return
        for thumb, k in zip(self._thumbs, self._order[self._first : self._first + SHOWN], strict=False):
            region = torch.from_numpy(self._exploration.top_region(k))[None, None].float()
            mask = F.interpolate(region, size=(SIDE, SIDE))[0, 0].numpy() > 0
            thumb.value = png(outlined(self._exploration.gallery.pictures[k], mask), THUMB)
        self._look_ahead()

    def _look_ahead(self) -> None:
        """Compute what the pictures show while nothing else is asked, one at a time, so that a click is answered at once."""
        exploration, left = self._exploration, [Pick(k) for k in self._order[self._first : self._first + SHOWN]]
        if self._next is not None:
            self._next.cancel()  # of pictures that are seen no more

        def one() -> None:
            if left:
                with suppress(NandError):  # said when it is clicked
                    exploration.example(left.pop(0))
                self._next = loop.call_later(PAUSE, one)

        with suppress(RuntimeError):  # no loop: nobody waits
            loop = asyncio.get_running_loop()
            self._next = loop.call_later(PAUSE, one)

    def _turn(self) -> None:
        self._first = (self._first + SHOWN) if self._first + SHOWN < len(self._order) else 0
        self.show(self._answer)
        self.draw()
