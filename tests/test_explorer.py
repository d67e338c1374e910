"""The explorer: what it computes is what the study says, and no input breaks it. The tiny study stands for any."""

import asyncio
import datetime
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tiny_project import executed
from typer.testing import CliRunner

from nandlib import add_normality
from nandlib.cli import app
from nandlib.cli.explore import page
from nandlib.errors import DataError
from nandlib.method.prompts import read_texts
from nandlib.show.explorer.answer import Exploration, Pick
from nandlib.show.explorer.gallery import Gallery
from nandlib.show.explorer.page import View
from nandlib.show.explorer.widget import Explorer
from nandlib.study.images import image_paths, some_normals
from nandlib.study.open_study import open_study


@pytest.fixture(scope="module")
def explorer(project):
    """As a notebook opens it: the working directory is below the project."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project / "notebooks")
        yield Explorer("tiny")


@pytest.fixture(scope="module")
def start(explorer):
    return explorer.gallery, explorer.texts.value, explorer.accepted.value, explorer.image.value


@pytest.fixture(autouse=True)
def fresh(explorer, start):
    """Every test starts from the same state; the images are not encoded again."""
    gallery, texts, accepted, image = start
    explorer._set(explorer.class_name, value="carpet")
    explorer._set(explorer.detector, options=list(gallery.base), value="aprilgan")
    explorer._set(explorer.method, options=["nand"], value="nand")
    explorer._enter(gallery, texts, accepted)
    explorer.image.value = image
    explorer._message.value = ""


def png(seed: int, side: int = 50) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def upload(*names: str, content: bytes | None = None) -> tuple[dict, ...]:
    contents = [content or png(k) for k in range(len(names))]
    about = {"type": "image/png", "last_modified": datetime.datetime.now(tz=datetime.UTC)}
    return tuple({"name": name, "content": c, "size": len(c), **about} for name, c in zip(names, contents, strict=True))


@pytest.mark.parametrize("detector", ["aprilgan", "winclip_1", "patchcore"])
def test_the_studys_own_texts_give_the_studys_own_numbers(project, explorer, detector):
    study = open_study("tiny", project)
    explorer.detector.value = detector
    for group in explorer.gallery.phrases:
        explorer.suggestion.value = group
        row = study.deltas.query("detector == @detector and `class` == 'carpet' and group == @group").iloc[0]
        areas = explorer.answer.auroc(explorer.gallery.groups, explorer.accepted.value)
        assert areas == pytest.approx((row.auroc_before, row.auroc_after, row.auroc_others))
        assert f"AUROC {row.auroc_before:.1f} before, {row.auroc_after:.1f} after" in explorer._result.value
        scores = study.scores.query("detector == @detector and `class` == 'carpet' and added == @group")
        np.testing.assert_allclose(explorer.answer.after, scores["after"], rtol=1e-5)


def test_nand_plus_gives_what_the_ablation_computes(project, explorer):
    study = open_study("tiny", project)
    explorer.detector.value, explorer.method.value = "patchcore", "nand_plus"
    table, steps = study.ablation_groups, study.ablation.query("kind == 'plus'")["step"]
    own = table["step"].isin(steps) & (table["detector"] == "patchcore") & (table["class"] == "carpet")
    table = table[own].set_index("group")
    for group in explorer.gallery.phrases:
        explorer.suggestion.value = group
        _, after, _ = explorer.answer.auroc(explorer.gallery.groups, explorer.accepted.value)
        assert after == pytest.approx(table.loc[group, "auroc_after"])


def test_a_new_text_changes_pictures_and_numbers_and_back(explorer):
    first = explorer._result.value
    explorer.texts.value = [*explorer.texts.value, "dark stain"]
    second = explorer._result.value
    assert first != second and second.count("<img") == 5
    explorer.texts.value = explorer.texts.value[:1]
    assert strip_time(explorer._result.value) == strip_time(first)
    explorer.texts.value = []
    assert "No text is added" in explorer._result.value
    np.testing.assert_array_equal(explorer.answer.after, explorer.answer.before)
    areas = explorer.answer.auroc(explorer.gallery.groups, ())
    assert areas[0] == areas[1] == areas[2]


def strip_time(shown: str) -> str:
    return re.sub(r"Answered in \d+ ms", "", shown)


def test_what_is_typed_joins_the_texts(explorer):
    count = len(explorer.texts.value)
    explorer.typed.value = " dark  stain "
    assert explorer.texts.value[count:] == [" dark  stain "] and explorer.typed.value == ""
    explorer.typed.value = "word " * 60
    assert "too long" in explorer._message.value and len(explorer.texts.value) == count + 1
    assert explorer.typed.value == "word " * 60  # to be mended
    explorer.typed.value = ";;;"
    assert len(explorer.texts.value) == count + 1 and not explorer.typed.disabled
    explorer.typed.value = "   "
    assert explorer._message.value == "" and len(explorer.texts.value) == count + 1


def test_the_threshold_counts_images(explorer):
    explorer.threshold.value = explorer.threshold.min
    rows = re.findall(r"<td>([^<]*)</td><td>(\d+)</td><td>(\d+)</td><td>(\d+)</td>", explorer._result.value)
    assert [row[0].split(" (")[0] for row in rows] == list(dict.fromkeys(g.replace("_", " ") for g in explorer.gallery.groups))
    assert all(row[1] == row[2] == row[3] for row in rows)
    explorer.threshold.value = explorer.threshold.max
    rows = re.findall(r"<td>(\d+)</td><td>(\d+)</td><td>(\d+)</td>", explorer._result.value)
    assert all(row[1:] == ("0", "0") for row in rows)


def test_what_no_one_can_tell_is_said(explorer):
    """Without good images there is no AUROC; a name that does not fit is cut, and whole where the mouse is."""
    names = ["squeezed teeth and more of them" for _ in explorer.gallery.groups]
    gallery = replace(explorer.gallery, groups=names)
    view = View(gallery, explorer.exploration.base, explorer.answer, 0, (), 1.0)
    assert "there is no good image to tell others from" in view.numbers()
    assert "squeezed teeth an…<title>squeezed teeth and more of them</title>" in view.scores()


NONSENSE = [" ; ;;", "<script>alert(1)</script>", "%s {} \\x00 'quote\" &amp;", "thread " * 30]


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_is_survived(explorer, text):
    explorer.texts.value = [text]
    assert "nand-error" not in explorer._message.value
    assert np.isfinite(explorer.answer.after).all()
    assert "<script>" not in explorer._result.value
    explorer.texts.value = ["thread"]
    assert explorer._message.value == ""


@pytest.mark.parametrize("text", ["🙂🙂🙂", "ß漢字"], ids=["signs", "letters"])
def test_what_no_model_reads_is_said(explorer, text):
    before = strip_time(explorer._result.value)
    explorer.texts.value = [text]
    assert "it knows English words alone" in explorer._message.value and strip_time(explorer._result.value) == before
    explorer.texts.value = ["thread"]
    assert explorer._message.value == ""


def test_what_is_too_much_is_said_and_the_last_answer_stays(explorer):
    before, texts = strip_time(explorer._result.value), list(explorer.texts.value)
    explorer.texts.value = ["word " * 60]
    assert "too long" in explorer._message.value and strip_time(explorer._result.value) == before and explorer.texts.value == texts
    explorer.texts.value = [f"text {k}" for k in range(9)]
    assert "too many" in explorer._message.value and explorer.texts.value == texts
    explorer.texts.value = ["thread"]
    assert explorer._message.value == ""


def test_what_is_refused_leaves_texts_and_examples_as_they_were(explorer):
    explorer.texts.value = ["thread"]
    explorer.typed.value = "漢字"
    assert "English words" in explorer._message.value and explorer.typed.value == "漢字" and explorer.texts.value == ["thread"]
    before = strip_time(explorer._result.value)
    explorer.image.value = (explorer.image.value + 1) % len(explorer.gallery.names)
    assert explorer._message.value == "" and strip_time(explorer._result.value) != before  # the page goes on
    explorer.accept.fine[0].click()
    assert len(explorer.accept.picks) == 1 and explorer.accept.fine[0].disabled
    explorer.accept.undo.click()


def test_one_text_damps_once(explorer):
    """Spelled otherwise, or beside what it says already, it is the same text."""
    explorer.texts.value = ["dark stain"]
    once = explorer.answer.after
    for again in ("Dark  stain", "dark stain; DARK stain"):
        explorer.typed.value = again
        assert explorer.texts.value == ["dark stain"] and explorer._message.value == ""
        np.testing.assert_array_equal(explorer.answer.after, once)
    explorer.typed.value = "dark stain; hole"
    assert "was added already" in explorer._message.value and explorer.texts.value == ["dark stain"]


def test_a_click_accepts_and_undo_takes_back(explorer):
    explorer.texts.value = []
    assert explorer.accept.undo.disabled and "Nothing is accepted" in explorer.accept._list.value
    explorer.accept.fine[0].click()
    index = int(explorer.exploration.base.amax((1, 2)).argmax())
    assert explorer.accept.picks == [Pick(index)] and explorer.accept.fine[0].disabled
    assert explorer.answer.after[index] < explorer.answer.before[index]
    assert explorer.gallery.names[index] in explorer.accept._list.value
    assert (explorer.answer.after <= explorer.answer.before).all()
    one = explorer.answer.after
    explorer.texts.value = ["thread"]
    assert (explorer.answer.after <= one + 1e-6).all()  # both: neither takes back what the other damps
    explorer.texts.value = []
    explorer.accept.undo.click()
    np.testing.assert_array_equal(explorer.answer.after, explorer.answer.before)
    assert explorer.accept.undo.disabled and not explorer.accept.fine[0].disabled


def test_what_is_accepted_is_what_add_normality_damps(project, explorer):
    """The same model, normal images and maps: the explorer's answer is that of the library."""
    study, index = open_study("tiny", project), 0
    explorer.detector.value, explorer.texts.value = "patchcore", []
    index = int(explorer.exploration.base.amax((1, 2)).argmax())
    explorer.accept.fine[0].click()
    train, test = (image_paths(study, "carpet", split) for split in ("train", "test"))
    base = {path: single.numpy() for path, single in zip(test, explorer.exploration.base, strict=True)}
    normals = [train[k] for k in some_normals(len(train))]
    flat = np.zeros_like(base[test[0]])
    detector = lambda images: [base.get(image, flat) for image in images]
    adapted = add_normality(detector, examples=[test[index]], model=explorer.gallery.model, normals=normals)
    np.testing.assert_allclose(np.stack(adapted(test[:4])), explorer.answer.final[:4].numpy(), atol=1e-5)


def test_accepting_survives_another_detector_and_ends_with_the_gallery(explorer):
    explorer.accept.fine[1].click()
    explorer.detector.value = "winclip_1"
    assert len(explorer.accept.picks) == 1 and explorer._message.value == ""
    explorer.class_name.value = "metal_nut"
    assert explorer.accept.picks == [] and explorer._message.value == ""


def test_what_cannot_be_accepted_is_said(explorer):
    explorer.accept.fine[0].click()
    explorer.image.value = explorer.accept.picks[0].index
    explorer.accept.fine_above.click()
    assert "was given before: every example counts once" in explorer._message.value and len(explorer.accept.picks) == 1
    lowest = int(explorer.exploration.base.amax((1, 2)).argmin())
    explorer.gallery.normal_scores["aprilgan"], kept = np.array([9.0]), explorer.gallery.normal_scores["aprilgan"]
    try:
        explorer.image.value = lowest
        explorer.accept.fine_above.click()
        assert "shows nothing: its score is" in explorer._message.value and len(explorer.accept.picks) == 1
        explorer.accept.boxed.value = True  # a box says where: then it may
        explorer.accept.fine_above.click()
        assert explorer._message.value == "" and explorer.accept.picks[1] == Pick(lowest, (64.0, 64.0, 192.0, 192.0))
        assert "(a box)" in explorer.accept._list.value
    finally:
        explorer.gallery.normal_scores["aprilgan"] = kept
        explorer.accept.boxed.value = False


def test_an_empty_box_is_said(explorer):
    explorer.accept.boxed.value = True
    try:
        explorer.accept.across.value = (50, 50)
        assert explorer._message.value == ""  # it may be drawn on
        explorer.accept.fine_above.click()
        assert "the box of an example is empty" in explorer._message.value and explorer.accept.picks == []
        explorer.accept.across.value = (25, 75)
        assert explorer._message.value == ""
    finally:
        explorer.accept.boxed.value = False


def test_a_box_is_drawn_with_the_mouse(explorer, monkeypatch):
    """From corner to corner, over the edge too; a click draws nothing."""
    accept, outlines = explorer.accept, []
    outline = accept.drawing._outline
    monkeypatch.setattr(accept.drawing, "_outline", lambda box: (outlines.append(box), outline(box)))
    assert accept.drawing.layout.display == "none"
    accept.boxed.value = True
    try:
        assert accept.drawing.layout.display is None
        mouse(accept.drawing, ("down", 230.4, 128), ("move", 128, 100), ("up", 25.6, 51.2))
        assert (accept.across.value, accept.down.value) == ((10, 90), (20, 50))
        assert accept.box == pytest.approx((25.6, 51.2, 230.4, 128.0))
        mouse(accept.drawing, ("move", 200, 200), ("up", 250, 250), ("down", 60, 60), ("move", 62, 62), ("up", 62, 62))
        assert (accept.across.value, accept.down.value) == ((10, 90), (20, 50))
        assert outlines[-1] == accept.box and (60.0, 60.0, 62.0, 62.0) in outlines  # after a click, what was there before
        accept.drawing[-1]._handle_frontend_event(None, {"event": "client_ready"}, [])  # the page was loaded again
        mouse(accept.drawing, ("down", 128, 128), ("out", 300, -4))
        assert (accept.across.value, accept.down.value) == ((50, 100), (0, 50))
    finally:
        accept.boxed.value, accept.across.value, accept.down.value = False, (25, 75), (25, 75)
    assert accept.drawing.layout.display == "none"


def mouse(drawing, *events):
    """As the browser tells them."""
    for name, x, y in events:
        drawing[-1]._handle_frontend_event(None, {"event": f"mouse_{name}", "x": x, "y": y}, [])


def test_what_is_wrong_is_said_before_or_on_the_page_of_a_folder(tmp_path, monkeypatch):
    said = CliRunner().invoke(app, ["explore", str(tmp_path / "nowhere")])
    assert isinstance(said.exception, DataError) and "nowhere does not exist" in str(said.exception)
    (tmp_path / "a.png").write_bytes(png(0))
    said = CliRunner().invoke(app, ["explore", str(tmp_path), "--maps", str(tmp_path), "--detector", "patchcore"])
    assert "give --maps, or --detector, not both" in str(said.exception)
    said = CliRunner().invoke(app, ["explore", str(tmp_path), "--detector", "patchcoer"])
    assert "no detector 'patchcoer': did you mean 'patchcore'" in str(said.exception)
    empty = dict.fromkeys(("maps", "checkpoint", "normals", "model"))
    monkeypatch.setenv("NAND_EXPLORE", json.dumps({"images": [str(tmp_path)], "noun": "cloth", "detector": "patchcore", **empty}))
    assert "patchcore needs 1 normal image(s), not 0" in page().value and "nand-error" in page().value
    (tmp_path / "b.png").write_bytes(b"no image")
    monkeypatch.setenv("NAND_EXPLORE", json.dumps({"images": [str(tmp_path)], "noun": "cloth", "detector": "aprilgan", **empty}))
    said, shown = page().children
    assert "left out: " in said.value and "b.png cannot be read as an image" in said.value and shown.gallery.names == ["a.png"]
    np.save(tmp_path / "a.npy", np.ones((8, 8)))
    by_maps = {"images": [str(tmp_path)], "noun": "cloth", "detector": None, **empty, "maps": str(tmp_path)}
    monkeypatch.setenv("NAND_EXPLORE", json.dumps(by_maps))
    assert page().children[1].gallery.names == ["a.png"]
    (tmp_path / "a.png").unlink()
    assert "b.png cannot be read as an image" in page().value


def test_what_is_shown_is_computed_while_nothing_is_asked(explorer, monkeypatch):
    """Then a click has only the maps to damp."""
    monkeypatch.setattr("nandlib.show.explorer.accept.PAUSE", 0.001)
    explorer.exploration._picked.clear()

    async def waiting():
        explorer.accept.draw()
        await asyncio.sleep(0)
        assert not explorer.exploration._picked  # the page is drawn first
        while len(explorer.exploration._picked) < len(explorer.accept._order[:8]):
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(waiting(), 60))
    shown = {pick.index for pick in explorer.exploration._picked}
    assert shown == set(explorer.accept._order[:8])


def test_what_is_looked_at_ahead_is_what_is_seen(explorer, monkeypatch):
    monkeypatch.setattr("nandlib.show.explorer.accept.PAUSE", 0.001)
    looked = []
    monkeypatch.setattr(Exploration, "example", lambda _, pick: looked.append(pick.index))

    async def turning():
        for first in (0, 8):
            explorer.accept._first = first
            explorer.accept._look_ahead()
        await asyncio.sleep(0.3)

    asyncio.run(turning())
    explorer.accept._first = 0
    assert looked == explorer.accept._order[8:16]


def test_the_next_ones(explorer):
    first = [caption.value for caption in explorer.accept._captions]
    explorer.accept.more.click()
    assert [caption.value for caption in explorer.accept._captions] != first
    while explorer.accept._first:
        explorer.accept.more.click()
    assert [caption.value for caption in explorer.accept._captions] == first


def test_own_images(explorer):
    explorer.upload.value = upload("a.png", "b.png")
    explorer.noun.value = "cloth"
    explorer.use_own.click()
    assert explorer._message.value == ""
    assert [name for name, _ in explorer.image.options] == ["a.png", "b.png"]
    assert "AUROC: unknown" in explorer._result.value
    hidden = {control.description for control in (*explorer._choices.children, explorer.noun) if control.layout.display == "none"}
    assert not hidden and explorer.threshold.layout.display is None and explorer.accepted.layout.display == "none"
    assert explorer.accept.layout.display == "none"  # nothing says what is normal
    assert [value for _, value in explorer.method.options] == ["nand"]
    assert "highest score of all" in explorer._help.value and "AUROC" not in explorer._help.value
    explorer.upload_normals.value = upload("n0.png", "n1.png", "n2.png")
    explorer.use_own.click()
    assert explorer.accept.layout.display is None
    assert "patchcore" in explorer.gallery.base and [value for _, value in explorer.method.options] == ["nand", "nand_plus"]
    explorer.detector.value, explorer.method.value = "patchcore", "nand_plus"
    assert "95 % quantile" in explorer._help.value
    assert {name: len(own) for name, own in explorer.gallery.normal_scores.items()}["winclip_1"] == 2  # the first is its reference
    explorer.texts.value = ["dust"]
    assert explorer._message.value == "" and (explorer.answer.after <= explorer.answer.before).all()
    assert explorer.figure().axes and "dust" in explorer.summary()


def test_back_from_own_images_to_the_study(explorer):
    names = explorer.gallery.names
    explorer.upload.value = upload("a.png")
    explorer.use_own.click()
    assert explorer.gallery.names == ["a.png"]
    explorer.back.click()
    assert explorer.gallery.names == names and explorer._message.value == ""
    explorer.upload.value = upload("a.png", "a.png")
    explorer.use_own.click()
    assert "two files are called a.png" in explorer._message.value
    explorer.upload.value = ()


def test_back_from_own_images_to_a_folder(model):
    """What was accepted there is accepted still, and a box that cannot be given is not drawn."""
    own = [np.random.default_rng(seed).integers(0, 255, (50, 50, 3), dtype=np.uint8) for seed in range(4)]
    page = Explorer(gallery=Gallery.of_images({"a": own[0], "b": own[1]}, model, normals=own[2:]), texts=["dust"])
    page.accept.boxed.value = True
    page.accept.fine_above.click()
    assert len(page.accept.picks) == 1 and "by example: a (a box)" in page.summary()
    after = page.answer.after
    page.upload.value = upload("c.png")
    page.use_own.click()
    assert page._message.value == "" and not page.accept.picks and not page.accept.boxed.value
    page.back.click()
    np.testing.assert_array_equal(page.answer.after, after)
    assert len(page.accept.picks) == 1 and list(page.texts.value) == ["dust"]
    page.back.click()
    assert len(page.accept.picks) == 1


def test_a_study_that_was_not_run_is_named(project):
    with pytest.raises(DataError, match="the study 'mini' has not been run here: 'make study'"):
        (project / "studies/mini.yaml").write_text((project / "studies/tiny.yaml").read_text().replace("tiny", "mini"))
        try:
            Explorer("mini", root=project)
        finally:
            (project / "studies/mini.yaml").unlink()


def test_without_a_front_end_there_is_a_figure(project):
    outputs, said = executed(project / "notebooks", "explorer", "tiny")
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    assert "Added as normal on carpet: thread on carpet" in said and "AUROC of the class" in said


def test_the_lesson_ends_on_the_real_thing(project):
    outputs, said = executed(project / "notebooks", "lesson_solutions", "tiny")
    assert re.search(r"Features \(4, 40, 40, 384\); “thread” added on carpet: the score falls from", said)
    assert "7 of 7" in said and not any(output.output_type == "error" for output in outputs)


@pytest.mark.parametrize("files", [(), upload("x.png", content=b"not an image"), upload("x.png", content=png(0)[:60])])
def test_own_files_that_are_no_images(explorer, files):
    before = explorer._result.value
    explorer.upload.value = files
    explorer.use_own.click()
    assert "nand-error" in explorer._message.value and explorer._result.value == before
    explorer.upload.value = ()


def test_texts_are_read_line_by_line():
    assert read_texts([" loose   thread ; ;hair", "", "dust", "dust"]) == [("loose thread", "hair"), ("dust",)]
    assert read_texts([]) == []


def test_another_class_study_and_figure(explorer):
    explorer.class_name.value = "metal_nut"
    assert explorer.gallery.noun == "metal_nut" and explorer._message.value == ""
    figure = explorer.figure()
    assert "others alone" in explorer.summary() and len(figure.axes) >= 4


def test_a_gallery_needs_images_and_nand_plus_normals(model):
    with pytest.raises(DataError, match="no image was given"):
        Gallery.of_images({}, model)
    gallery = Gallery.of_images({"a": Image.open(io.BytesIO(png(0)))}, model)
    with pytest.raises(DataError, match="calibrated on normal images"):
        Exploration(gallery, "aprilgan", "nand_plus")
    large = np.ones((1, 1024, 300), np.float32)  # a peak of one pixel, which a smaller map would lose
    large[0, 501, 7] = 11
    one = {"a": Image.open(io.BytesIO(png(0)))}
    gallery = Gallery.of_images(one, model, normals=[Image.new("RGB", (50, 50))], detectors={"own": lambda images: large})
    assert gallery.base["own"].shape == (1, 256, 256) and gallery.base["own"].max() == 11 == gallery.normal_scores["own"][0]
