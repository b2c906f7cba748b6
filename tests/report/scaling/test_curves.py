"""Recipes over K, and what two of them differ in."""

import pytest
from scipy import stats

from ektf_jax.report import results, seeds
from ektf_jax.report.paper.names import NAMES
from ektf_jax.report.scaling import curves

from ..conftest import result

OWN = {"kd": False, "dml": False}


def run(size, auc, seed=1, *, method="ektf", options=None, valid=None, **changes):
    """K students below their ensemble, with all that the study shows; students on validation in reverse."""
    aucs = [auc - 0.01 - 0.001 * k for k in range(size)]
    sharing, name = changes.pop("sharing", "own"), changes.pop("name", None)
    made = result(method, aucs, auc, seed=seed, options=options or {}, **changes)
    made["config"]["embedding"]["sharing"] = sharing
    if name:
        made["config"]["ensemble"]["students"] = {"one": {"name": name}}
    reverse = [{"auc": one, "logloss": 0.4} for one in reversed(aucs)]
    made["valid"] = {
        "ensemble": {"auc": auc if valid is None else valid, "logloss": 0.4},
        "students": reverse,
    }
    if size > 1:
        made["test"]["diversity"] = {"ambiguity": 0.001 * size, "error_correlation": 1 - 0.01 * size}
    made["embedding_use"] = {"user": {"effective_rank": 3.0}, "item": {"effective_rank": 5.0}}
    made["flops_per_sample"] = 1000 * size
    return made


def load(directory):
    return curves.curves(seeds.main_runs(results.load(directory, names=NAMES)))


def test_runs_of_one_recipe_are_a_curve_over_k_with_one_student_alone_as_its_start(write):
    for seed in (1, 2):
        write(run(1, 0.80, seed, method="none", sharing="shared"))
        for size, auc in ((2, 0.85), (4, 0.87)):
            write(run(size, auc + 0.001 * seed, seed))
            write(run(size, auc + 0.002 * seed, seed, options=OWN))
    write(run(6, 0.9, sharing="shared"))  # one K is no curve
    directory = write(run(1, 0.7, method="none", name="ecn"))
    ektf, own = load(directory)
    assert (ektf.label, own.label) == ("EKTF of MLP, a table each", "own losses of MLP, a table each")
    assert own.over(curves.ensemble_auc) == {1: (0.8, 0.8), 2: (0.852, 0.854), 4: (0.872, 0.874)}
    assert ektf.over(curves.ensemble_auc)[1] == (0.8, 0.8)
    assert own.ends == (2, 4)
    assert own.kinds == ("mlp",)


def test_a_model_alone_with_other_settings_starts_no_curve(write):
    write(run(1, 0.80, method="none", learning_rate=0.1))
    for size in (2, 4):
        directory = write(run(size, 0.85))
    (curve,) = load(directory)
    assert sorted(curve.groups) == [2, 4]


def test_a_rise_is_that_of_the_means_and_is_tested_as_scipy_does(write):
    low, high = (0.80, 0.81, 0.83), (0.84, 0.845, 0.86)
    for seed in range(3):
        write(run(2, low[seed], seed, valid=0.5))
        directory = write(run(10, high[seed], seed, valid=0.6))
    (curve,) = load(directory)
    rise, p = curve.rise(curves.ensemble_auc)
    assert rise == pytest.approx(sum(high) / 3 - sum(low) / 3, abs=1e-12)
    assert p == pytest.approx(stats.ttest_ind(high, low, equal_var=False).pvalue, rel=1e-9)
    assert curve.rise(curves.valid_auc)[0] == pytest.approx(0.1)


def test_the_chosen_student_is_that_of_validation(write):
    for size in (2, 3):
        directory = write(run(size, 0.9))
    (curve,) = load(directory)
    # The best on validation is the last, which is the worst on the test split.
    assert curve.over(curves.student_auc) == {2: (0.9 - 0.011,), 3: (0.9 - 0.012,)}


def test_pairs_differ_in_one_thing(write):
    for size in (2, 4):
        write(run(size, 0.9))
        write(run(size, 0.9, options=OWN))
        write(run(size, 0.9, sharing="shared"))
        directory = write(run(size, 0.9, name="ecn"))
    found = {(thing, one.label, other.label) for thing, one, other in curves.pairs(load(directory))}
    assert found == {
        ("loss", "EKTF of MLP, a table each", "own losses of MLP, a table each"),
        ("table", "EKTF of MLP", "EKTF of MLP, a table each"),
    }
