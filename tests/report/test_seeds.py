"""Groups of runs that differ in seed, and statistics over them."""

import math

import numpy as np
import pytest
from scipy import stats

from ektf_jax.report import seeds

from .conftest import load, result


def test_repetitions_of_config_and_seed_are_set_apart(write):
    write(result("ektf", [0.8, 0.9], seed=1))
    write(result("ektf", [0.8, 0.9], seed=2))
    directory = write(result("ektf", [0.7, 0.7], seed=1))
    kept, repeated = seeds.distinct(load(directory))
    assert [run.path for run in kept] == ["000", "001"]
    assert [run.path for run in repeated] == ["002"]


def test_the_order_of_keys_is_no_setting(write):
    kinds = {"mlp": {"name": "mlp", "hidden_units": [4], "dropout": 0.2}}
    for seed in (1, 1, 2, 3):
        kinds = {"mlp": dict(reversed(kinds["mlp"].items()))}
        made = result("ektf", [0.8, 0.9], seed=seed)
        made["students"] = kinds
        directory = write(made)
    kept, repeated = seeds.distinct(load(directory))
    assert [run.seed for run in kept] == [1, 2, 3]
    assert [run.seed for run in repeated] == [1]
    (group,) = seeds.groups(kept)
    assert len(group.runs) == 3


def test_runs_on_other_encodings_of_the_data_are_other_runs(write):
    write(result("ektf", [0.8, 0.9], seed=1))
    write(result("ektf", [0.8, 0.9], seed=2))
    other = result("ektf", [0.7, 0.7], seed=1)
    other["dataset"]["source"] = {"split_seed": 7}
    kept, repeated = seeds.distinct(load(write(other)))
    assert (len(kept), repeated) == (3, [])
    main, variant = seeds.groups(kept)
    assert len(main.runs) == 2
    assert variant.variant.startswith("encoding = ")


def test_of_several_settings_the_one_of_most_seeds_is_the_main_one(write):
    write(result("ektf", [0.8, 0.9], learning_rate=0.1))
    write(result("ektf", [0.7, 0.8], seed=1))
    write(result("ektf", [0.7, 0.8], seed=2))
    directory = write(result("ektf", [0.7, 0.8, 0.9]))
    runs = load(directory)
    found = seeds.groups(runs)
    assert [(group.label, group.num_students, len(group.runs)) for group in found] == [
        ("EKTF of MLP", 2, 2),
        ("EKTF of MLP [train.learning_rate = 0.1]", 2, 1),
        ("EKTF of MLP", 3, 1),
    ]
    assert [run.path for run in seeds.main_runs(runs)] == ["001", "002", "003"]


def test_statistics():
    values, others = [0.81, 0.82, 0.84], [0.79, 0.80, 0.80, 0.78]
    assert seeds.mean(values) == pytest.approx(np.mean(values))
    assert seeds.deviation(values) == pytest.approx(np.std(values, ddof=1))
    # Welch's t and its degrees of freedom, written out
    a, b = np.var(values, ddof=1) / 3, np.var(others, ddof=1) / 4
    t = (np.mean(values) - np.mean(others)) / np.sqrt(a + b)
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 3)
    assert seeds.p_value(values, others) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-9)
    assert seeds.p_value(values, others) == pytest.approx(seeds.p_value(others, values))


def test_seeds_that_a_difference_needs():
    """As many runs as these on either side: the smallest number whose Welch's p is less."""
    ours, theirs = [0.81, 0.83], [0.80, 0.805, 0.79, 0.81]
    variances = np.var(ours, ddof=1), np.var(theirs, ddof=1)
    for wanted in (0.5, 0.05, 1e-3, 1e-9):
        found = seeds.seeds_for(wanted, ours, theirs)
        assert found is not None
        for count, enough in ((found, True), (found - 1, False)):
            if count > 1:
                t = (np.mean(ours) - np.mean(theirs)) / np.sqrt(sum(variances) / count)
                freedom = (count - 1) * sum(variances) ** 2 / (variances[0] ** 2 + variances[1] ** 2)
                assert (2 * stats.t.sf(abs(t), freedom) < wanted) == enough
    assert seeds.seeds_for(0.5, ours, theirs) == 2
    assert seeds.seeds_for(0.05, [0.8], theirs) is None
    assert seeds.seeds_for(0.05, [0.8, 0.8], [0.7, 0.7]) is None
    # A difference of a tenth of the deviation takes some 770 seeds, one of a twentieth more than a thousand.
    noise = [-1.0, 1.0]
    found = seeds.seeds_for(0.05, noise, [-1 + 0.1 * 2**0.5, 1 + 0.1 * 2**0.5])
    assert found is not None
    assert 700 < found < 800
    assert seeds.seeds_for(0.05, noise, [-1 + 0.05 * 2**0.5, 1 + 0.05 * 2**0.5]) is None


def test_too_few_values_have_no_statistics():
    assert all(
        map(
            math.isnan,
            (
                seeds.mean([]),
                seeds.deviation([0.8]),
                seeds.p_value([0.8], [0.7, 0.6]),
                seeds.p_value([0.8, 0.7], []),
                seeds.p_value([], [0.8, 0.7]),
                seeds.p_value([0.8, 0.8], [0.7, 0.7]),
            ),
        )
    )
