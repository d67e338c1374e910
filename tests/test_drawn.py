"""The drawn images: complete, exact, deterministic, and disjoint from what trains the model."""

import inspect
from dataclasses import replace

import numpy as np
import pytest

from nandlib.data.drawn import auxiliary, catalogue, defects
from nandlib.data.drawn.catalogue import CATALOGUE, draw
from nandlib.data.drawn.validation import VALIDATION
from nandlib.data.groups import load_grouping
from nandlib.study.fingerprint import import_closure
from nandlib.training import vocabulary

TYPES = [(c, t) for c, product in CATALOGUE.items() for t in product.types]
VALIDATION_TYPES = [(c, t) for c, product in VALIDATION.items() for t in product.types]
TRAINING = import_closure("nandlib.training.heads", "nandlib.data.drawn.auxiliary")  # modules that draw what trains the model


def test_the_catalogue_has_mvtec_ads_classes_and_types():
    assert len(CATALOGUE) == 15
    assert len(TYPES) == 73
    for class_name, groups in load_grouping("mvtec_ad").classes.items():
        assert set().union(*groups.values()) == set(CATALOGUE[class_name].types) - {"combined"}


@pytest.mark.parametrize(("class_name", "type_name"), TYPES + VALIDATION_TYPES, ids=lambda x: str(x))
def test_every_type_changes_exactly_its_mask(class_name, type_name, monkeypatch):
    """Before light, focus and noise are laid over it, the image is the good product outside the mask, and is not inside."""
    catalogue_of = CATALOGUE if class_name in CATALOGUE else VALIDATION
    lit, _ = draw(class_name, type_name, 5, 0, 128, catalogue_of)
    assert (lit.shape, lit.dtype) == ((128, 128, 3), np.float32) and lit.min() >= 0 and lit.max() <= 1
    goods = []

    def watched(draw_fault):
        def run(*arguments):
            scene, image = draw_fault(*arguments)
            goods.append(scene.image.copy())
            return scene, image

        return run

    product = catalogue_of[class_name]
    fault = product.types[type_name]
    monkeypatch.setitem(product.types, type_name, replace(fault, draw=watched(fault.draw)))
    monkeypatch.setattr(catalogue, "lit", lambda image, rng: image)
    image, mask = draw(class_name, type_name, 5, 0, 128, catalogue_of)
    assert catalogue.MIN_AREA <= mask.mean() < 0.9
    change = np.abs(image - np.clip(goods[-1], 0, 1)).max(-1)
    assert (change[~mask] <= catalogue.MASK_THRESHOLD + 1e-6).all()
    unclipped = mask & ((image > 0) & (image < 1)).all(-1) & ((goods[-1] >= 0) & (goods[-1] <= 1)).all(-1)
    assert (change[unclipped] > catalogue.MASK_THRESHOLD - 1e-6).all() and change[mask].mean() > catalogue.MASK_THRESHOLD


def test_a_fault_leaves_the_product_as_it_is_elsewhere():
    """The scene beside a fault is the good product of the same seed, for every type."""
    for class_name, type_name in TYPES + VALIDATION_TYPES:
        product = (CATALOGUE if class_name in CATALOGUE else VALIDATION)[class_name]
        seed = np.random.SeedSequence(5, spawn_key=(1,))
        scene, faulty = product.types[type_name].draw(product.render, seed, 64)
        assert np.array_equal(scene.image, product.render(catalogue._stream(seed, "scene"), 64).image)
        assert faulty.shape == scene.image.shape


def test_validation_products_are_in_no_study_and_train_nothing():
    assert not set(VALIDATION) & set(CATALOGUE)
    renderers = {product.render for product in VALIDATION.values()}
    assert not renderers & {product.render for product in CATALOGUE.values()}
    assert "nandlib.data.drawn.validation" not in TRAINING
    assert not {c.replace("_", " ") for c in VALIDATION} & set(vocabulary.NOUNS)


def test_images_are_deterministic_and_independent_of_each_other():
    one, mask = draw("carpet", "thread", 0, 3, 96)
    again, mask_again = draw("carpet", "thread", 0, 3, 96)
    assert np.array_equal(one, again)
    assert np.array_equal(mask, mask_again)
    assert not np.array_equal(one, draw("carpet", "thread", 0, 4, 96)[0])
    assert not np.array_equal(one, draw("carpet", "thread", 1, 3, 96)[0])


def test_good_images_vary():
    images = np.stack([draw("hazelnut", "good", 0, k, 64)[0] for k in range(4)])
    assert images.std(0).mean() > 0.02


def test_auxiliary_images_share_no_renderer_with_a_study():
    """No module that draws products is among those that training imports; the defects' modules are, which `origin` reports."""
    renderers = {product.render.__module__ for product in (*CATALOGUE.values(), *VALIDATION.values())}
    assert len(renderers) >= 3 and not renderers & set(TRAINING)
    assert "nandlib.data.drawn.catalogue" not in TRAINING
    assert "nandlib.data.drawn.defects.lines" in TRAINING


def test_auxiliary_nouns_are_not_the_studys_classes():
    assert not {c.replace("_", " ") for c in CATALOGUE} & set(vocabulary.NOUNS)


def test_auxiliary_labels_cover_all_families():
    seen = np.unique(np.concatenate([np.unique(auxiliary.draw(0, k, 64).labels) for k in range(300)]))
    assert set(seen) == {auxiliary.NORMAL, *range(len(auxiliary.FAMILIES))}
    assert np.array_equal(auxiliary.draw(0, 7, 64).image, auxiliary.draw(0, 7, 64).image)


@pytest.mark.parametrize("family", auxiliary.FAMILIES)
def test_primitives_stay_inside_the_region(family):
    rng = np.random.default_rng(1)
    image = np.full((96, 96, 3), 0.5, np.float32) + 0.1 * rng.random((96, 96, 3), dtype=np.float32)
    region = np.zeros((96, 96), bool)
    region[:, :60] = True
    primitive = auxiliary.FAMILIES[family].primitive
    changed = primitive(image, region, np.random.default_rng(2))
    assert changed.shape == image.shape
    assert (np.abs(changed - image).max(-1) > 0.02).any()
    if primitive not in (defects.warp,):  # a bend moves what is around it
        assert np.abs(changed - image)[:, 62:].max() < 0.02


@pytest.mark.parametrize("class_name", [*CATALOGUE, *VALIDATION])
def test_a_fault_makes_no_random_choice_of_its_own(class_name):
    """Otherwise the good and the faulty product would differ in more than the fault."""
    render = (CATALOGUE | VALIDATION)[class_name].render
    faults = [name for name, p in inspect.signature(render).parameters.items() if p.default is False]
    states = []
    for fault in (None, *faults):
        rng = np.random.default_rng(4)
        render(rng, 64, **({fault: True} if fault else {}))
        states.append(rng.bit_generator.state)
    assert all(state == states[0] for state in states)
