"""Where a study's defects come from: drawn by what also drew the embedded model's training images, or by something that it never saw."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from nandlib.data.drawn.auxiliary import FAMILIES
from nandlib.data.drawn.catalogue import CATALOGUE, Product
from nandlib.data.drawn.validation import VALIDATION
from nandlib.data.manifest import table1
from nandlib.errors import PresetError
from nandlib.evaluation.uncertainty import GIVEN, SHARED, SPECIFIC
from nandlib.study.open_study import OpenStudy

CATALOGUES: Mapping[str, Mapping[str, Product]] = {"mvtec_ad": CATALOGUE, "validation": VALIDATION}


def type_origin(product: Product, type_name: str) -> str:
    """`SHARED` if a primitive of this type also draws auxiliary images, on which the embedded model was trained; else `SPECIFIC`."""
    trained = {family.primitive for family in FAMILIES.values()}
    return SHARED if trained & set(product.types[type_name].primitives) else SPECIFIC


def type_origins(study: OpenStudy) -> pd.DataFrame:
    """Table 1 with its origins: class, group, type, n_images, origin.

    Raises:
        PresetError: If the preset names a catalogue that does not draw such.
    """
    types, products = table1(study.manifest), study.config.data.products
    if products is None:
        return types.assign(origin=GIVEN)
    catalogue, origins = CATALOGUES[products], []
    for row in types.itertuples(index=False):
        if row[0] not in catalogue or row[2] not in catalogue[row[0]].types:
            raise PresetError(f"data.catalogue: no '{row[2]}' of a '{row[0]}' is drawn by '{products}': leave it out")
        origins.append(type_origin(catalogue[row[0]], row[2]))
    return types.assign(origin=origins)


def group_origins(study: OpenStudy) -> pd.Series:
    """Origin by class and group: a group of which any type is `SHARED` is."""
    by_group = type_origins(study).groupby(["class", "group"], sort=False)["origin"]
    return by_group.agg(lambda origins: SHARED if SHARED in set(origins) else origins.iloc[0])
