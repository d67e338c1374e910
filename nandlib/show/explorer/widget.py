"""The explorer: a Jupyter widget in which any text is added as normal, and what it does is seen at once."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as w
from matplotlib.figure import Figure
from PIL import Image

from nandlib.data.images import load_image
from nandlib.errors import DataError, NandError
from nandlib.method.prompts import read_texts
from nandlib.show.explorer.accept import Accept
from nandlib.show.explorer.answer import Answer, Exploration, Pick
from nandlib.show.explorer.gallery import Gallery
from nandlib.show.explorer.page import STYLE, View
from nandlib.show.pictures import before_after
from nandlib.show.style import LABELS, pretty
from nandlib.study.open_study import open_study, project_root

METHODS = {"nand": "NAND (the paper's rule)", "nand_plus": "nand_plus (this study's rule)"}
HELP = """<b>Type a text and press Enter</b>: what it says counts as normal from now on, and the maps are damped where the image shows it.
Several phrases for one thing are parted by a semicolon. Click × on a text to take it back."""
HELP_GROUPS = """Under <b>counts as normal</b> choose the groups that the texts speak of: the AUROC then asks whether good images and those
groups are told from the others."""
HELP_THRESHOLD = {  # by whether scores of normal images are known
    True: "The <b>threshold</b> starts at the 95 % quantile of normal images and stays where it is when a text is added.",
    False: "No score of a normal image is known for this detector: the <b>threshold</b> starts at the highest score of all.",
}

READING = "reading the text; for the first one also the generic defects that it is compared with, which takes some seconds"


class Explorer(w.VBox):
    """Pick a study, class and image, or drop images of your own; type texts; see maps, scores and AUROC before and after.

    Args:
        study: Name of the study to start with.
        class_name: Class to start with; None: that of the study's figures.
        texts: Texts to start with; None: the study's phrases for the group of its figures.
        root: Of the checkout; None: that of the working directory.
        gallery: Images to look at instead of a study's.

    Raises:
        NandError: If the study does not exist or has not been run.
    """

    def __init__(
        self,
        study: str = "mini",
        class_name: str | None = None,
        texts: Sequence[str] | None = None,
        root: Path | None = None,
        gallery: Gallery | None = None,
    ) -> None:
        self._since = time.perf_counter()  # of what is done now
        self._given, self._quiet = gallery, False
        self._last: tuple[list[str], list[Pick]] = ([], [])  # texts and picks of the last answer
        self._left: list[Pick] = []  # picks of the given gallery, when it was left
        self._root = root or (project_root() if gallery is None else Path())
        self._build(study)
        super().__init__([self._choices, self._own, self._ask, self._message, self._result, self.accept, w.HTML(STYLE)])
        if gallery is None:
            self._load_study(class_name, texts)
        else:
            self._enter(gallery, texts or (), ())

    # --- what is on the page -------------------------------------------------------------------------------------------

    def _build(self, study: str) -> None:
        wide = {"width": "auto", "min_width": "180px", "flex": "1 1 200px"}  # each control has a layout of its own, since some are hidden
        named = {"style": {"description_width": "initial"}, "layout": wide}
        studies = self._studies(study) if self._given is None else [study]
        self.study = w.Dropdown(options=studies, value=study, description="study", **named)
        self.class_name = w.Dropdown(description="class", **named)
        self.image = w.Dropdown(description="image", **named)
        self.detector = w.Dropdown(description="detector", **named)
        self.method = w.Dropdown(description="method", **named)
        row = w.Layout(display="flex", flex_flow="row wrap", width="100%")
        of_study = [self.study, self.class_name] if self._given is None else []
        self._choices = w.Box([*of_study, self.image, self.detector, self.method], layout=row)

        self._build_own(row, named)
        self._build_texts(row, named)
        self.accept = Accept(self._answer, self._guarded)
        self._connect()

    def _build_own(self, row: w.Layout, named: dict[str, Any]) -> None:
        self.upload = w.FileUpload(accept="image/*", multiple=True, description="images")
        self.upload_normals = w.FileUpload(
            accept="image/*", multiple=True, description="normal images (optional)", layout={"width": "auto"}
        )
        self.noun = w.Text(value="object", description="they show a", **named)
        self.use_own = w.Button(description="use them")
        self.back = w.Button(description="back to the study" if self._given is None else "back")
        explain = w.HTML(
            "<div class='nand-note'>Images of one kind, of any size. Some normal ones add PatchCore, few-shot WinCLIP, nand_plus and a "
            "threshold. Nothing leaves this machine.</div>"
        )
        boxes = w.Box([self.upload, self.upload_normals, self.noun, self.use_own, self.back], layout=row)
        self._own = w.Accordion([w.VBox([explain, boxes])], titles=["Your own images"], selected_index=None)

    def _build_texts(self, row: w.Layout, named: dict[str, Any]) -> None:
        self.typed = w.Text(
            description="Add as normal",
            placeholder="type a text and press Enter",
            continuous_update=False,
            style={"description_width": "initial"},
            layout={"width": "auto"},
        )
        self.typed.add_class("nand-typed")
        self.texts = w.TagsInput(allow_duplicates=False, layout={"width": "100%"})
        self.texts.add_class("nand-texts")
        self.suggestion = w.Dropdown(description="replace by the study's phrases", **named)
        self.accepted = w.SelectMultiple(description="counts as normal", rows=4, **named)
        self.threshold = w.FloatSlider(min=0, max=1, step=0.01, description="threshold", readout_format=".2f", **named)
        self._help = w.HTML()
        self._ask = w.VBox(
            [self._help, self.typed, self.texts, w.Box([self.suggestion, self.accepted, self.threshold], layout=row)],
        )
        self._message, self._result = w.HTML(), w.HTML()
        self._result.add_class("nand-result")

    def _connect(self) -> None:
        for control, action in (
            (self.study, lambda: self._load_study()),
            (self.class_name, self._load_class),
            (self.detector, self._choose),
            (self.method, self._choose),
            (self.typed, self._add),
            (self.texts, self._answer),
            (self.image, self._show),
            (self.accepted, self._show),
            (self.threshold, self._show),
            (self.suggestion, self._suggest),
            (self.accept.boxed, self._show),
            (self.accept.across, self._show),
            (self.accept.down, self._show),
        ):
            control.observe(self._guarded(action), "value")
        self.use_own.on_click(self._guarded(self._load_own))
        self.back.on_click(self._guarded(self._go_back))
        self.accept.fine_above.on_click(self._guarded(lambda: self.accept.accept(Pick(self.image.value, self.accept.box))))

    def _studies(self, chosen: str) -> list[str]:
        ready = {path.parent.name for path in self._root.glob("data/*/similarities")}
        return sorted({p.stem for p in self._root.glob("studies/*.yaml")} & ready | {chosen})

    def _guarded(self, action: Callable[[], None]) -> Callable[[Any], None]:
        """An action whose errors become a message: the explorer goes on with what it had."""

        def run(_: Any) -> None:
            if self._quiet:
                return
            self._since, self._message.value = time.perf_counter(), ""
            try:
                action()
            except NandError as error:
                self._say(str(error))

        return run

    def _say(self, text: str) -> None:
        self._message.value = f"<div class='nand-error' role='alert'>{html.escape(text)}</div>"

    def _progress(self, done: int, total: int) -> None:
        self._message.value = "" if done == total else f"<div class='nand-note'>computing image features, once: {done} of {total}</div>"

    def _set(self, control: w.Widget, **values: Any) -> None:
        """Change a control without acting on it."""
        self._quiet = True
        try:
            for name, value in values.items():
                setattr(control, name, value)
        finally:
            self._quiet = False

    # --- what happens --------------------------------------------------------------------------------------------------

    def _load_study(self, class_name: str | None = None, texts: Sequence[str] | None = None) -> None:
        study = open_study(self.study.value, self._root)
        if not (study.data / "similarities").is_dir():
            raise DataError(f"the study '{study.name}' has not been run here: 'make study', or 'nand study run {study.name}'")
        example, group = study.example()
        self._set(self.class_name, options=[(pretty(name), name) for name in study.classes()], value=class_name or example)
        self._load_class(texts, group if self.class_name.value == example else None)

    def _load_class(self, texts: Sequence[str] | None = None, group: str | None = None) -> None:
        study = open_study(self.study.value, self._root)
        gallery = Gallery.of_study(study, self.class_name.value, self._progress)
        group = group or next(iter(gallery.phrases))
        accepted, texts = ([group], ["; ".join(gallery.phrases[group])]) if texts is None else ([], texts)
        self._enter(gallery, texts, accepted, gallery.groups.index(group))

    def _go_back(self) -> None:
        if self._given is None:
            self._load_class()
        elif self.gallery is not self._given:
            self._enter(self._given, self.texts.value, ())
            self.accept.picks = self._left
            self._answer()

    def _load_own(self) -> None:
        images, normals = _uploaded(self.upload.value), _uploaded(self.upload_normals.value)
        noun = self.noun.value.strip() or "object"
        gallery = Gallery.of_images(images, self.gallery.model, noun=noun, normals=list(normals.values()), progress=self._progress)
        if self.gallery is self._given:
            self._left = self.accept.picks
        self._enter(gallery, self.texts.value, [])

    def _enter(self, gallery: Gallery, texts: Sequence[str], accepted: Sequence[str], index: int = 0) -> None:
        """Fill all controls for a gallery, and answer."""
        self.gallery = gallery
        kept = self.detector.value if self.detector.value in gallery.base else next(iter(gallery.base))
        method = self.method.value if self.method.value in gallery.methods else gallery.methods[0]
        self._set(self.detector, options=[(LABELS.get(name, name), name) for name in gallery.base], value=kept)
        self._set(self.method, options=[(METHODS[name], name) for name in gallery.methods], value=method)
        self._set(self.image, options=[(name, k) for k, name in enumerate(gallery.names)], value=index)
        self._set(self.accepted, options=[(pretty(g), g) for g in gallery.phrases], value=tuple(accepted))
        options = [("choose …", ""), *((f"for “{pretty(g)}”", g) for g in gallery.phrases)]
        self._set(self.suggestion, options=options, value="", disabled=not gallery.phrases)
        for control in (self.suggestion, self.accepted):
            control.layout.display = None if gallery.phrases else "none"
        self._set(self.texts, value=list(texts))
        self._last = [], []
        self._choose(anew=True)

    def _choose(self, anew: bool = False) -> None:
        """Another detector or method; `anew`: another gallery."""
        self.exploration = Exploration(self.gallery, self.detector.value, self.method.value)
        top = float(self.exploration.base.max())
        self._set(self.threshold, max=max(top, 1e-6) * 1.02, step=max(top, 1e-6) / 200)
        self._set(self.threshold, value=min(self.gallery.threshold(self.detector.value), self.threshold.max))
        known = self.gallery.normal_scores[self.detector.value] is not None
        lines = (HELP, *([HELP_GROUPS] if self.gallery.phrases else []), HELP_THRESHOLD[known])
        self._help.value = f"<div class='nand-note'>{' '.join(lines)}</div>"
        self.accept.look(self.exploration, anew)
        self._set(self.accept.boxed, value=self.accept.boxed.value and self.gallery.residuals is not None)
        self._answer()
        self.accept.draw()  # after the answer is seen

    def _suggest(self) -> None:
        group = self.suggestion.value
        if group:
            self._set(self.accepted, value=(group,))
            self._set(self.suggestion, value="")
            self._set(self.texts, value=["; ".join(self.gallery.phrases[group])])
            self._answer()

    def _add(self) -> None:
        """What was typed joins the texts; if it is refused, it stays in its field to be mended."""
        typed, texts = self.typed.value, [*self.texts.value, self.typed.value]
        if len(read_texts(texts)) > len(read_texts(self.texts.value)):  # it says something new
            self._set(self.texts, value=texts)
        self._set(self.typed, value="", disabled=True)  # of what is typed meanwhile the last alone would come
        self._message.value = f"<div class='nand-note'>{READING}</div>"
        try:
            self._answer()
        except NandError:
            self._set(self.typed, value=typed)
            raise
        finally:
            self.typed.disabled = False
            self.typed.focus()  # which a field that is disabled loses
        self._message.value = ""

    def _answer(self) -> None:
        """What the texts and picks do; those that cannot be answered make way for the last ones that could."""
        wanted = list(self.texts.value), self.accept.picks
        try:
            self._take(*wanted)
        except NandError:
            self._take(*self._last)
            raise
        self._last = wanted

    def _take(self, texts: list[str], picks: list[Pick]) -> None:
        self.answer: Answer = self.exploration.answer(read_texts(texts), picks)
        self._set(self.texts, value=texts)
        self.accept.picks = picks
        self.accept.show(self.answer)
        self._show()

    # --- what is seen --------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        view = View(
            self.gallery, self.exploration.base, self.answer, self.image.value, self.accepted.value, self.threshold.value, self.accept.drawn
        )
        self.accept.look_at(self.image.value)
        side = f"<div class='nand-side'><div>{view.numbers()}</div><div>{view.scores()}</div></div>"
        self._result.value = view.pictures() + side + self._notes()

    def _notes(self) -> str:
        texts = read_texts(self.texts.value)
        lines = [] if texts or self.accept.picks else ["No text is added: the maps are those of the unchanged detector."]
        for phrases in texts:
            near = ", ".join(f"{name} ({cosine:+.2f})" for name, cosine in self.exploration.nearest(phrases))
            lines.append(f"“{html.escape(phrases[0])}” is nearest, of the model's generic defects, to: {html.escape(near)}.")
        lines.append(f"Answered in {1000 * (time.perf_counter() - self._since):.0f} ms for {len(self.gallery.names)} images.")
        return f"<div class='nand-note'>{'<br>'.join(lines)}</div>"

    def figure(self) -> Figure:
        """What is chosen now as an ordinary figure: for readers without a running kernel."""
        k, gallery = self.image.value, self.gallery
        row = {
            "label": gallery.names[k].replace("/", "\n"),
            "image": gallery.pictures[k],
            "mask": gallery.masks[k],
            "before": self.exploration.base[k].numpy(),
            "suppression": self.answer.suppression[k].numpy(),
            "after": self.answer.final[k].numpy(),
        }
        return before_after([row])

    def summary(self) -> str:
        """What is seen in a sentence."""
        areas = self.answer.auroc(self.gallery.groups, self.accepted.value)
        texts = "; ".join(p for phrases in read_texts(self.texts.value) for p in phrases) or "nothing"
        shown = "; by example: " + "; ".join(self.accept.names) if self.accept.picks else ""
        found = "" if areas is None else f" AUROC of the class: {areas[0]:.1f} before, {areas[1]:.1f} after, others alone {areas[2]:.1f}."
        k = self.image.value
        return (
            f"Added as normal on {pretty(self.gallery.noun)}: {texts}{shown}. Score of {self.gallery.names[k]}: "
            f"{self.answer.before[k]:.2f} before, {self.answer.after[k]:.2f} after.{found}"
        )


def _uploaded(files: Sequence[Mapping[str, Any]]) -> dict[str, Image.Image]:
    """Name → image of what was dropped.

    Raises:
        DataError: If a file is no image.
    """
    found: dict[str, Image.Image] = {}
    for file in files:
        if file["name"] in found:
            raise DataError(f"two files are called {file['name']}: rename one")
        found[file["name"]] = load_image(file["name"], bytes(file["content"]))
    return found
