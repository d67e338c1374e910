"""What the lesson needs: a toy world of feature maps and text vectors, and checks of seven exercises.

The toy world has the structure of the real thing and none of its weight: images are grids of patch features, texts are vectors of
the same space, and both are mixtures of a few concepts. Everything is seeded numpy.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from nandlib.method import operators
from nandlib.method.examples import residuals
from nandlib.show.pictures import show_map
from nandlib.show.style import MAP_COLOURS, OURS, PAPER, SUPPRESSION_COLOURS

SIDE, WIDTH, LAYERS = 16, 12, 4  # patches a side, features, layers
CHANGED = "your code changes what it is given (as *= and /= do), which is used again: work on a copy."
CONCEPTS = ("carpet", "flawless", "damaged", "thread", "hole", "stain")


def _concepts() -> dict[str, np.ndarray]:
    """Orthonormal directions; a thread and a hole have something in common: both are damage."""
    basis, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(WIDTH, WIDTH)))
    return dict(zip(CONCEPTS, basis.T, strict=False))


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def text(*words: str, seed: int = 0) -> np.ndarray:
    """A text vector ``(12,)``, not normalised: the sum of the concepts that its words name, with a little noise of its own.

    Longer texts have longer vectors. A thread, a hole or a stain is damage too, a little.
    """
    known = _concepts()
    unknown = [word for word in words if word not in known]
    if unknown:
        raise ValueError(f"the toy world knows {', '.join(CONCEPTS)}, not {unknown[0]}")
    parts = [known[word] + (0.5 * known["damaged"] if word in ("thread", "hole", "stain") else 0) for word in words]
    noise = np.random.default_rng([seed, *(CONCEPTS.index(word) for word in words)]).normal(size=WIDTH)
    return np.sum(parts, 0) * len(words) + 0.15 * noise


def prompts(*words: str, count: int = 5) -> np.ndarray:
    """Several wordings of the same thing: ``(count, 12)``, of different lengths."""
    return np.stack([(1 + 2 * (k == 0)) * text(*words, seed=k + 1) for k in range(count)])


@dataclass(frozen=True)
class Image:
    """A toy image.

    Attributes:
        kind: good, thread, hole or stain.
        features: ``(4, 16, 16, 12)``: layers, rows, columns, features.
        mask: ``(16, 16)`` bool, where the defect is.
    """

    kind: str
    features: np.ndarray
    mask: np.ndarray


def image(kind: str, seed: int = 0) -> Image:
    """A toy image of carpet, with a defect unless it is good; deeper layers are less noisy."""
    rng, known = np.random.default_rng([seed, ["good", "thread", "hole", "stain"].index(kind)]), _concepts()
    row, column = np.mgrid[:SIDE, :SIDE]
    centre = rng.uniform(4, 12, 2)
    slope = rng.uniform(-1, 1)
    masks = {
        "good": np.zeros((SIDE, SIDE), bool),
        "thread": (np.abs(row - centre[0] - slope * (column - centre[1])) < 0.9) & (np.abs(column - centre[1]) < 5),
        "hole": (row - centre[0]) ** 2 + (column - centre[1]) ** 2 < 5,
        "stain": (row - centre[0]) ** 2 + 0.4 * (column - centre[1]) ** 2 < 8,
    }
    mask = masks[kind]
    strength = rng.uniform(0.8, 1.3)
    base = known["carpet"] + known["flawless"]
    defect = known["carpet"] + strength * (0.8 * known["damaged"] + known.get(kind, 0)) if kind != "good" else base
    clean = np.where(mask[..., None], defect, base)
    noise = rng.normal(size=(LAYERS, SIDE, SIDE, WIDTH)) * np.array([0.50, 0.42, 0.36, 0.32])[:, None, None, None]
    return Image(kind, clean + noise, mask)


def test_set(count: int = 12) -> list[Image]:
    """`count` images of each kind."""
    return [image(kind, seed) for kind in ("good", "thread", "hole", "stain") for seed in range(count)]


# --- the reference answers: the library's operators on numpy arrays ----------------------------------------------------


def _tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x, np.float64))


def cosine_map(features: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Exercise 1: cosine similarity of every patch with a text, ``(…, D)`` and ``(D,)`` to ``(…)``."""
    flat = _tensor(_unit(features)).reshape(1, 1, -1, features.shape[-1])
    return operators.similarities(flat, _tensor(_unit(vector))[None]).reshape(features.shape[:-1]).numpy()


def probability(added: np.ndarray, other: np.ndarray, temperature: float) -> np.ndarray:
    """Exercise 2: Eq. 4's softmax of two cosine maps, the share of the first."""
    return torch.softmax(temperature * torch.stack([_tensor(added), _tensor(other)]), 0)[0].numpy()


def ensemble(vectors: np.ndarray) -> np.ndarray:
    """Exercise 3: Eq. 3, ``(n, D)`` to ``(D,)``."""
    return operators.prompt_ensemble(_tensor(vectors)).numpy()


def suppression(layers: np.ndarray) -> np.ndarray:
    """Exercise 4: the maps of L layers ``(L, H, W)`` as one suppression map ``(H, W)`` in [0, 1]: their mean."""
    return operators.aggregate_layers(_tensor(layers)[None], "mean")[0].numpy()


def adapt(anomaly_map: np.ndarray, suppression_map: np.ndarray) -> tuple[np.ndarray, float]:
    """Exercise 5: Eq. 6 and the image score: A_final ``(H, W)`` and its maximum."""
    final = operators.suppress(_tensor(anomaly_map), _tensor(suppression_map)).numpy()
    return final, float(final.max())


def auroc(scores: np.ndarray, kinds: list[str], normal: list[str]) -> float:
    """Exercise 6: image AUROC in percent with the kinds in `normal` counted as normal."""
    return 100 * float(roc_auc_score([kind not in normal for kind in kinds], scores))


def direction(patches: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Exercise 7: where a region's residuals point, patches ``(P, D)`` and normal ones ``(M, D)`` to ``(D,)`` of length 1."""
    return _unit(residuals(_tensor(patches), _tensor(normal)).mean(0).numpy())


# --- checks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exercise:
    """An exercise: what the code must compute, and which prediction was right."""

    title: str
    reference: Callable[..., Any]
    cases: Callable[[], list[tuple[Any, ...]]]
    answer: str
    why: str


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def _maps(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).random(shape)


EXERCISES = {
    1: Exercise(
        "Cosine similarity", cosine_map, lambda: [(_random(5, 4, WIDTH), _random(WIDTH)), (3 * _random(2, 7, 9), _random(9))], "b",
        "the cosine does not see how long a vector is, only where it points.",
    ),
    2: Exercise(
        "Softmax and temperature", probability, lambda: [(_random(4, 5), _random(5, 4).T, t) for t in (0.5, 7.0, 100.0)], "c",
        "the temperature multiplies the difference of the two similarities: large, and the map becomes a decision.",
    ),
    3: Exercise(
        "Prompt ensemble", ensemble, lambda: [(_random(6, WIDTH),), (_random(1, 5),), (np.diag([9.0, 1.0, 1.0]),)], "a",
        "without the first normalisation the longest vector outvotes the others, though it says nothing more.",
    ),
    4: Exercise(
        "Layers", suppression, lambda: [(_maps(4, 6, 5),), (_maps(1, 3, 3),), (np.ones((4, 2, 2)),)], "c",
        "each layer is a probability; four of them add up to as much as 4, and 1 - 4 is negative: A_final would change its sign.",
    ),
    5: Exercise(
        "Suppression and score", adapt, lambda: [(4 * _maps(6, 5), _maps(5, 6).T), (np.c_[4, 3, 0], np.c_[1, 0, 0])], "b",
        "the score is a maximum: it falls only if *every* anomalous place is damped.",
    ),
    6: Exercise(
        "The protocol", auroc,
        lambda: [(_maps(8).round(1), [*3 * ["good"], *3 * ["thread"], *2 * ["hole"]], n) for n in (["good"], ["good", "thread"])]
        + [(np.full(2, 0.5), order, ["good"]) for order in (["good", "hole"], ["hole", "good"])], "a",
        "threads score as high as holes and stains; now that they count as normal, every abnormal image that scores lower is a wrong pair.",
    ),
    7: Exercise(
        "What an example shows", direction, lambda: [(_random(6, 5), _random(9, 5)), (2 + _random(1, 3), _random(4, 3))], "b",
        "what is normal cancels: of a patch without defect only noise is left, and noise points nowhere in particular.",
    ),
}  # fmt: skip


def verdict(number: int, prediction: Any, function: Callable[..., Any]) -> tuple[bool, str]:
    """Whether an exercise is solved, and what to say.

    Raises:
        ValueError: If there is no exercise of that number.
    """
    if number not in EXERCISES:
        raise ValueError(f"there are exercises 1 to {len(EXERCISES)}, not {number}")
    exercise = EXERCISES[number]
    head = f"**Exercise {number}, {exercise.title}:**"
    guessed = "".join(prediction.lower().split()[:1]).strip("().:,*'\"") if isinstance(prediction, str) else ""
    if guessed not in ("a", "b", "c"):
        return False, f'{head} first write down your prediction: "a", "b" or "c".'
    for case in exercise.cases():
        expected, given = exercise.reference(*case), deepcopy(case)
        try:
            got = function(*given)
        except Exception as error:
            return False, f"{head} your code raises {type(error).__name__}: {error}"
        if problem := _difference(got, expected) or ("" if all(map(np.array_equal, given, case)) else CHANGED):
            return False, f"{head} {problem}"
    guess = "Your prediction was right" if guessed == exercise.answer else f"Your prediction was {guessed}; it is {exercise.answer}"
    return True, f"{head} ✔ the code is right. {guess}: {exercise.why}"


def _difference(got: Any, expected: Any) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if got is None or got is ...:
        return "not done yet: the function returns nothing."
    if isinstance(expected, tuple):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            return f"return {len(expected)} things, the map and the score."
        found = map(_difference, got, expected)
        return next((f"the {name}: {problem}" for name, problem in zip(("map", "score"), found, strict=True) if problem), "")
    kinds = (np.ndarray, np.number) if np.ndim(expected) else (int, float, np.number, np.ndarray)
    if not isinstance(got, kinds) or np.asarray(got).dtype.kind not in "biuf":
        return f"return numbers, {'an array' if np.ndim(expected) else 'one'}, not {type(got).__name__}."
    if np.shape(got) != np.shape(expected):
        return f"the shape is {np.shape(got)}, it should be {np.shape(expected)}."
    if not np.allclose(got, expected, atol=1e-8):
        place = np.unravel_index(int(np.abs(np.subtract(got, expected, dtype=float)).argmax()), np.shape(expected))
        wrong, right = (float(np.asarray(values)[place]) for values in (got, expected))
        worst = f"values are not right yet: the worst, at {[*map(int, place)]}," if place else "value is not right yet: it"
        return f"the {worst} is {wrong:.3f}, it should be {right:.3f}."
    return ""


_solved: dict[int, bool] = {}


def check(number: int, prediction: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """Show the verdict on an exercise, and return a function to go on with: the given one if it is right, else a right one."""
    _solved[number], said = verdict(number, prediction, function)
    display(Markdown(said))
    return function if _solved[number] else EXERCISES[number].reference


def progress() -> Markdown:
    """How many exercises are solved."""
    done = sum(_solved.values())
    left = ", ".join(str(k) for k in EXERCISES if not _solved.get(k))
    return Markdown(f"**{done} of {len(EXERCISES)} exercises solved.**" + (f" To do: {left}." if left else " Well done."))


# --- pictures ----------------------------------------------------------------------------------------------------------


def show(
    panels: dict[str, np.ndarray], mask: np.ndarray | None = None, *, vmax: float = 1, vmin: float = 0, suppression: bool = False
) -> Figure:
    """Maps side by side on one scale, title → ``(16, 16)``, with the outline of a mask."""
    figure, axes = plt.subplots(1, len(panels), figsize=(1.75 * len(panels) + 0.6, 2.3), squeeze=False)
    for ax, (title, values) in zip(axes[0], panels.items(), strict=True):
        shown = show_map(ax, values, vmax=vmax, vmin=vmin, colours=SUPPRESSION_COLOURS if suppression else MAP_COLOURS, title=title)
        if mask is not None and mask.any():
            at = (np.arange(SIDE) + 0.5) / SIDE
            ax.contour(at, at, mask, levels=[0.5], colors="white", linewidths=1)
    figure.colorbar(shown, ax=axes[0, -1], shrink=0.8)
    return figure


def show_scores(before: np.ndarray, after: np.ndarray, kinds: list[str]) -> Figure:
    """Scores of all images, a row a kind: hollow before, filled after."""
    names = list(dict.fromkeys(kinds))
    figure, ax = plt.subplots(figsize=(6, 0.5 * len(names) + 0.9))
    y = np.array([names.index(kind) for kind in kinds], float)
    ax.scatter(before, y - 0.12, s=22, facecolors="none", edgecolors="0.4", label="before")
    ax.scatter(after, y + 0.12, s=22, color=OURS, label="after")
    ax.axvline(before[np.array(kinds) == "good"].max(), color=PAPER, lw=1, label="largest score of a good image")
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel="image score", ylim=(len(names) - 0.5, -0.5))
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    return figure


# --- the real thing ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RealExample:
    """An image of a study and the texts of its class, in the space of the embedded model.

    Attributes:
        picture: RGB uint8.
        mask: bool, or None.
        features: ``(L, h, w, D)`` patch features.
        normal, abnormal, added: Prompt features before the ensemble, ``(n, D)``.
        temperature: The model's.
        names: Class and added group.
    """

    picture: np.ndarray
    mask: np.ndarray | None
    features: np.ndarray
    normal: np.ndarray
    abnormal: np.ndarray
    added: np.ndarray
    temperature: float
    names: tuple[str, str]


def real_example(study: str) -> RealExample | None:
    """The first image of the added group of a study's example class; None if the study has not been run."""
    from nandlib.data.images import load_image
    from nandlib.errors import NandError
    from nandlib.show.examples import first_image, picture
    from nandlib.study.model import model_of
    from nandlib.study.open_study import open_study

    try:
        opened = open_study(study)
        class_name, group = opened.example()
        row = opened.rows(class_name).iloc[first_image(opened, class_name, group)]
        model = model_of(opened)
        features = model.encode_image(model.preprocess(load_image(opened.images / row["image"]))[None])
    except NandError:
        return None
    sentences = opened.prompts.of_class(class_name, opened.test_groups()[class_name])
    normal, abnormal, added = (model.encode_text(sentences[key]).numpy() for key in ("normal", "abnormal", f"+{group}"))
    seen = picture(opened, row)
    tokens = features.tokens[0].cpu().unflatten(1, features.grid).numpy()
    return RealExample(seen["image"], seen["mask"], tokens, normal, abnormal, added, model.temperature, (class_name, group))


def show_real(example: RealExample, before: np.ndarray, sup: np.ndarray, after: np.ndarray) -> Figure:
    """The image, A, A_sup and A_final of the real example."""
    from nandlib.show.pictures import before_after
    from nandlib.show.style import pretty

    row = {"label": pretty(example.names[1]), "image": example.picture, "mask": example.mask}
    return before_after([{**row, "before": before, "suppression": sup, "after": after}])
