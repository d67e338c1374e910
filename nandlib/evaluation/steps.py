"""The configurations that lead from the paper's rule to `nand_plus`, one change at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nandlib.method.config import NandConfig

if TYPE_CHECKING:
    from nandlib.method.suppression import Texts

FRONTIER = (0.03, 0.1, 1.0, 3.0)  # more values of plus.prior: what more or less suppression costs


@dataclass(frozen=True)
class Step:
    """A named configuration.

    Attributes:
        kind: ``nand``, ``path`` (on the way), ``plus``, ``without`` (`nand_plus` less one part), ``frontier``,
            ``known`` and ``open`` (which need more than the text).
        name: As it is printed.
        nand: The configuration.
        open_world: Whether every second name of the other types is wrong (`half_wrong`).
    """

    kind: str
    name: str
    nand: NandConfig
    open_world: bool = False


def half_wrong(texts: Texts, own: int) -> list[int]:
    """The class's types as someone names them who knows half of them, or less: of the others every second one, from the first on, is
    exchanged, which of one is all.

    In its place stands a generic defect that the class does not have: of the bank, the texts whose largest cosine with any text of a
    type is smallest.

    Args:
        texts: Which text is which.
        own: Position of the added text, which stays.
    """
    others = [k for k in texts.types if k != own]
    features = texts.features[list(texts.generic)] @ texts.features[list(texts.types)].T
    foreign = [list(texts.generic)[k] for k in features.amax(1).argsort(stable=True).tolist()]
    return [own, *others[1::2], *foreign[: len(others[0::2])]]


def steps(nand: NandConfig) -> list[Step]:
    """The paper's rule, the changes that lead to `nand_plus`, `nand_plus` less one of them, and what needs more than the text.

    Args:
        nand: Of the study: its parameters of Eq. 4, and those of `nand_plus`.
    """

    def plus(**changes: Any) -> NandConfig:
        return nand.model_copy(update={"method": "nand_plus", "plus": nand.plus.model_copy(update=changes)})

    plain = {"calibrate": False, "sharpness": 1.0, "prior": 1.0}
    return [
        Step("nand", "nand (the paper's)", nand.model_copy(update={"method": "nand"})),
        Step("path", "+ mean of the layers first", plus(regions=False, competitors="normal", **plain)),
        Step("path", "+ by region", plus(competitors="normal", **plain)),
        Step("path", "+ against other defects", plus(**plain)),
        Step("path", "+ sharpness and prior", plus(calibrate=False)),
        Step("plus", "+ calibrated = nand_plus", plus()),
        Step("without", "nand_plus without regions", plus(regions=False)),
        Step("without", "nand_plus without synonyms", plus(synonym=1.0)),
        *(Step("frontier", f"nand_plus, prior {prior:g}", plus(prior=prior)) for prior in FRONTIER),
        Step("known", "nand_plus, all other types named (closed world)", plus(competitors="types")),
        Step("open", "nand_plus, half of those names wrong (open world)", plus(competitors="types"), True),
    ]
