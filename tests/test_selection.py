"""The choice of `nand_plus`'s parameters, from its table alone."""

import pandas as pd

from nandlib.evaluation.selection import AS_IT_IS, LEAST_GAIN, START, best_candidate, chosen_values


def table(*rows):
    return pd.DataFrame(rows, columns=["round", "parameter", "value", "criterion", "removed_other"])


def test_the_best_change_is_made_if_it_gains_enough():
    standing = (1, AS_IT_IS, "", 5.0, 6.0)
    assert best_candidate(table(standing, (1, "prior", "0.2", 5.0 + 0.9 * LEAST_GAIN, 1.0))) == 0
    assert best_candidate(table(standing, (1, "prior", "0.2", 5.0 + 1.1 * LEAST_GAIN, 9.0))) == 1


def test_among_equals_that_which_spares_the_others():
    rows = (1, AS_IT_IS, "", 5.0, 0.0), (1, "prior", "0.2", 6.0, 7.0), (1, "focus", "4", 5.95, 5.0), (1, "prior", "0.1", 5.5, 1.0)
    assert best_candidate(table(*rows)) == 2


def test_rounds_add_up():
    first = table((1, AS_IT_IS, "", 5.0, 6.0), (1, "prior", "0.2", 6.0, 6.0), (1, "regions", "False", 4.0, 6.0))
    second = table((2, AS_IT_IS, "", 6.0, 6.0), (2, "regions", "False", 6.5, 6.0))
    last = table((3, AS_IT_IS, "", 6.5, 6.0), (3, "focus", "4", 6.5, 6.0))
    known = table((4, "known_prior", "1", 8.0, 6.0), (4, "known_prior", "2", 7.0, 6.0))
    expected = {**START, "prior": 0.2, "regions": False, "known_prior": 1.0}
    assert chosen_values(pd.concat([first, second, last, known])) == expected
