"""The lesson: it runs unsolved and solved, its checks know right from wrong, and both notebooks tell the same story."""

from pathlib import Path

import nbformat
import numpy as np
import pytest
from tiny_project import executed

from nandlib.show import lesson

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def test_the_lesson_runs_before_anything_is_solved():
    _, said = executed(NOTEBOOKS, "lesson")
    assert "0 of 7 exercises solved" in said
    assert said.count("first write down your prediction") == 7


def test_the_solutions_solve_all_exercises():
    outputs, said = executed(NOTEBOOKS, "lesson_solutions")
    assert "7 of 7 exercises solved" in said
    assert said.count("Your prediction was right") == 7
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 8


def test_both_notebooks_differ_in_the_exercises_alone():
    lesson_cells, solved = (nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells for name in ("lesson", "lesson_solutions"))
    solved = [cell for cell in solved if not cell.source.startswith("**Why ")]
    assert len(lesson_cells) == len(solved)
    for one, other in zip(lesson_cells[1:], solved[1:], strict=True):
        exercise = any(tag.startswith("exercise") for tag in one.metadata.get("tags", ()))
        assert (one.source == other.source) != exercise
    assert sum(cell.source.startswith("### Exercise") for cell in lesson_cells) == 7


@pytest.mark.parametrize("number", lesson.EXERCISES)
def test_right_code_passes_whatever_the_prediction(number):
    exercise = lesson.EXERCISES[number]
    for guess in "abc":
        solved, said = lesson.verdict(number, guess, exercise.reference)
        assert solved and ("was right" in said) == (guess == exercise.answer)
    if number == 5:
        assert lesson.verdict(number, "b", lambda *case: [*exercise.reference(*case)])[0]


WRONG = {
    1: [lambda f, t: f @ t, lambda f, t: f @ t / np.linalg.norm(f, axis=-1), lambda f, t: f @ t / np.linalg.norm(f)],
    2: [lambda a, b, t: np.exp(t * a) / (1 + np.exp(t * b)), lambda a, b, t: 1 / (1 + np.exp(t * (a - b))), lambda a, b, t: a > b],
    3: [lambda p: p.mean(0), lambda p: p.mean(0) / np.linalg.norm(p.mean(0)), lambda p: p / np.linalg.norm(p, axis=1, keepdims=True)],
    4: [lambda m: m.sum(0), lambda m: m.max(0), lambda m: m.sum(0).clip(0, 1), lambda m: m.mean()],
    5: [
        lambda a, s: a * (1 - s),
        lambda a, s: (a - s, (a - s).max()),
        lambda a, s: (a * s, (a * s).max()),
        lambda a, s: (a * (1 - s), 0.0),
        lambda a, s: (a * (1 - s), (a * (1 - s)).flat[a.argmax()]),  # the score where A was highest
    ],
    6: [
        lambda s, k, n: _without_ties(s, k, n),
        lambda s, k, n: 50.0,
        lambda s, k, n: lesson.auroc(-s, k, n),
        lambda s, k, n: lesson.auroc(s, k, ["good"]),
        lambda s, k, n: 0.5,
    ],
    7: [
        lambda p, n: lesson._unit(p.mean(0)),
        lambda p, n: lesson._unit((p - n.mean(0)).mean(0)),
        lambda p, n: (p - n[np.linalg.norm(p[:, None] - n, axis=-1).argmin(1)]).mean(0),
        lambda p, n: -lesson.direction(p, n),
    ],
}


def _without_ties(scores, kinds, normal):
    """Ranks by their places: of equal scores one is above the other."""
    return lesson.auroc(scores.argsort().argsort() + 1.0, kinds, normal)


def _other_kind(value):
    """What prints alike, and breaks what goes on with it."""
    return tuple(map(_other_kind, value)) if isinstance(value, tuple) else value.tolist() if np.ndim(value) else str(value)


def _not_a_number(value):
    return tuple(map(_not_a_number, value)) if isinstance(value, tuple) else value * np.nan


def _in_place(number, *case):
    """The right answer, and the first array that was given is another one afterwards."""
    found = lesson.EXERCISES[number].reference(*case)
    first = next(given for given in case if isinstance(given, np.ndarray))
    first *= 2
    first += 1
    return found


@pytest.mark.parametrize("prediction", ["(b)", "b: nothing", '"b"', "**B**", "b)", " b. "])
def test_a_prediction_is_read_as_students_write_it(prediction):
    solved, said = lesson.verdict(1, prediction, lesson.EXERCISES[1].reference)
    assert solved and "write down your prediction" not in said
    assert not lesson.verdict(1, f"x {prediction}", lesson.EXERCISES[1].reference)[0]


def test_a_single_number_has_no_place():
    """Of exercise 5 it is said whether the map or the score is wrong."""
    reference = lesson.EXERCISES[5].reference
    assert "the score: the value is not right yet: it is" in lesson.verdict(5, "a", lambda *case: (reference(*case)[0], 7.0))[1]
    assert (
        "the map: the values are not right yet: the worst, at [" in lesson.verdict(5, "a", lambda *case: (2 * reference(*case)[0], 7.0))[1]
    )


@pytest.mark.parametrize("number", lesson.EXERCISES)
def test_wrong_code_is_told_what_is_wrong(number):
    for function in WRONG[number]:
        solved, said = lesson.verdict(number, "a", function)
        assert not solved and any(words in said for words in ("not right yet", "the shape is", "return 2 things")), said
    for function, words in (
        (lambda *_: None, "not done yet"),
        (lambda *_: ..., "not done yet"),
        (lambda *_: 1 / 0, "ZeroDivisionError"),
        (lambda *_: "x", "return numbers" if number != 5 else "return 2 things"),
        (lambda *case: _other_kind(lesson.EXERCISES[number].reference(*case)), "return numbers"),
        (lambda *case: _not_a_number(lesson.EXERCISES[number].reference(*case)), "is nan, it should be"),
        (lambda *case: _in_place(number, *case), "changes what it is given"),
    ):
        solved, said = lesson.verdict(number, "a", function)
        assert not solved and words in said
    assert lesson.verdict(number, " B) ", lesson.EXERCISES[number].reference)[0]
    assert "first write down" in lesson.verdict(number, ..., lesson.EXERCISES[number].reference)[1]
    assert lesson.check(number, "a", WRONG[number][0]) is lesson.EXERCISES[number].reference


def test_the_toy_world_shows_what_the_lesson_says():
    """NAND helps, its controls do not, and other defects lose score: else the prose would be wrong."""
    nor, abn = (lesson.ensemble(lesson.prompts("carpet", word)) for word in ("flawless", "damaged"))
    images = lesson.test_set()
    kinds, normal = [image.kind for image in images], ["good", "thread"]

    def maps(image, vector):
        return np.stack([lesson.probability(lesson.cosine_map(f, vector), lesson.cosine_map(f, nor), 6) for f in image.features])

    bases = [maps(image, abn).sum(0) for image in images]
    before = np.array([base.max() for base in bases])
    gains, kept = {}, {}
    for word in ("thread", "hole", "damaged"):
        add = lesson.ensemble(lesson.prompts("carpet", word))
        after = np.array([lesson.adapt(b, lesson.suppression(maps(i, add)))[1] for b, i in zip(bases, images, strict=True)])
        gains[word] = lesson.auroc(after, kinds, normal) - lesson.auroc(before, kinds, normal)
        kept[word] = (after / before)[np.isin(kinds, ["hole", "stain"])].mean()
    assert lesson.auroc(before, kinds, ["good"]) > 99 > lesson.auroc(before, kinds, normal)
    assert gains["thread"] > 10 and gains["hole"] < -10 and gains["damaged"] < -10
    assert 0.3 < kept["thread"] < 0.7


def test_showing_a_thread_tells_it_from_a_hole():
    """What the lesson says of examples: one is enough here, and hardly anything else is damped."""
    nor, abn = (lesson.ensemble(lesson.prompts("carpet", word)) for word in ("flawless", "damaged"))
    normal = np.concatenate([lesson.image("good", 100 + k).features[3].reshape(-1, lesson.WIDTH) for k in range(4)])

    def seen(image):
        pairs = (lesson.probability(lesson.cosine_map(f, abn), lesson.cosine_map(f, nor), 6) for f in image.features)
        base = np.sum(list(pairs), 0)
        return base, lesson.direction(image.features[3][base > 0.75 * base.max()], normal)

    images = lesson.test_set()
    kinds = np.array([image.kind for image in images])
    bases, found = zip(*(seen(image) for image in images), strict=True)
    example = seen(lesson.image("thread", 50))[1]
    before, likeness = np.array([base.max() for base in bases]), np.stack(found) @ example
    after = before * (1 - 1 / (1 + np.exp(-20 * (likeness - 0.8))))
    stay = np.isin(kinds, ["hole", "stain"])
    assert lesson.auroc(after, list(kinds), ["good", "thread"]) > 95 and (after / before)[stay].mean() > 0.95
    assert np.abs(likeness[kinds == "good"].mean()) < 0.3 < likeness[stay].mean() < 0.7 < likeness[kinds == "thread"].mean()


def test_unknown_words_and_exercises_are_refused():
    with pytest.raises(ValueError, match="the toy world knows carpet"):
        lesson.text("carpet", "rust")
    with pytest.raises(ValueError, match="exercises 1 to 7"):
        lesson.verdict(8, "a", print)
