"""The control of the embedded model: its training shares no drawing code and no phrase with a study."""

import numpy as np
import pytest

from nandlib.data.drawn import auxiliary, disjoint
from nandlib.data.drawn.catalogue import CATALOGUE
from nandlib.data.drawn.validation import VALIDATION
from nandlib.evaluation.overlap import overlap_table
from nandlib.heard import core
from nandlib.study.fingerprint import import_closure
from nandlib.training.vocabulary import training_phrases

ROOMS = {"nandlib", "nandlib.data", "nandlib.data.drawn"}  # which import nothing


def test_it_imports_nothing_of_the_project():
    assert all(
        name.startswith("nandlib.data.drawn.disjoint") for name in import_closure("nandlib.data.drawn.disjoint") if name not in ROOMS
    )


def test_no_function_draws_both():
    """All functions reachable from the studies' faults and renderers, by module, against those of `disjoint`."""
    used = {fault for catalogue in (CATALOGUE, VALIDATION) for product in catalogue.values() for fault in product.types.values()}
    drawn = {primitive for fault in used for primitive in fault.primitives}
    drawn |= {product.render for catalogue in (CATALOGUE, VALIDATION) for product in catalogue.values()}
    modules = import_closure(*{function.__module__ for function in drawn})
    assert "nandlib.data.drawn.canvas" in modules
    assert not any(name.startswith("nandlib.data.drawn.disjoint") for name in modules)
    assert all(f.__module__.startswith(f"{disjoint.__name__}.") for f in disjoint.FAMILIES.values())
    assert not set(disjoint.FAMILIES.values()) & drawn


@pytest.mark.parametrize("family", auxiliary.FAMILIES)
def test_every_family_is_drawn_inside_its_region_and_by_its_seed(family):
    image = np.random.default_rng(0).uniform(0.3, 0.6, (64, 64, 3))
    region = np.zeros((64, 64), bool)
    region[16:48, 16:48] = True

    def draw(seed):
        return disjoint.FAMILIES[family](image.copy(), region, np.random.default_rng(seed), np.full((64, 64, 3), 0.1))

    found = [draw(seed) for seed in range(6)]
    assert all(np.isfinite(picture).all() and picture.shape == image.shape for picture in found)
    assert any(np.abs(np.clip(picture, 0, 1) - image).max() > 0.08 for picture in found)
    assert np.array_equal(found[0], draw(0))
    if family not in ("bent", "metal"):  # which push their surroundings, or throw a shadow on them
        outside = ~np.pad(region[12:-12, 12:-12], 12, mode="edge")
        assert all(np.abs(picture - image)[outside].max() < 0.02 for picture in found)


def test_auxiliary_images_of_either_kind_differ():
    shared, own = (auxiliary.draw(3, 5, drawing=drawing) for drawing in ("shared", "disjoint"))
    assert not np.array_equal(shared.image, own.image)
    assert np.array_equal(own.image, auxiliary.draw(3, 5, drawing="disjoint").image)


def test_no_phrase_of_a_study_trains_it():
    table = overlap_table().set_index(["model", "study"])
    assert (table.loc["disjoint", "equal"] == 0).all()
    assert table.loc[("shared", "mini"), ["phrases", "equal"]].tolist() == [342, 168]
    whole, left = training_phrases(), training_phrases(disjoint=True)
    assert whole.keys() == left.keys() and all(left.values())
    assert [sum(map(len, words.values())) for words in (left, whole)] == [267, 407]  # as the model card says
    assert all(set(left[family]) < set(whole[family]) or left[family] == whole[family] for family in whole)


def test_the_core_of_a_phrase():
    assert core("a hole in the metal nut", "metal_nut") == ("hole",)
    assert core("Hole") == ("hole",)
    assert core("small hole in carpet", "carpet") == ("small", "hole")
