import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ektf_jax.training.schedule import Plateau, from_json, to_json, update

SETTINGS = {"patience": 2, "decay": 0.1, "min_learning_rate": 1e-6, "min_delta": 1e-6}


def run(metrics, learning_rate=1e-3, **changes):
    """The plateau after each evaluation, until it stops."""
    plateau, history = Plateau(learning_rate), []
    for epoch, metric in enumerate(metrics, start=1):
        plateau = update(plateau, metric, epoch, **SETTINGS | changes)
        history.append(plateau)
        if plateau.stopped:
            break
    return history


def test_the_published_ml1m_curve_drops_the_rate_after_7_and_10_and_stops_at_11_with_best_9():
    curve = [0.872978, 0.883181, 0.890929, 0.893374, 0.894305, 0.895824]
    curve += [0.895343, 0.902758, 0.903859, 0.903763, 0.903418, 0.99]
    history = run(curve)
    # The rate that epochs 1, 2, ... are trained with.
    rates = [1e-3, *(plateau.learning_rate for plateau in history)][: len(history)]
    assert rates == pytest.approx([1e-3] * 7 + [1e-4] * 3 + [1e-5])
    assert [epoch for epoch, plateau in enumerate(history, 1) if not plateau.improved] == [7, 10, 11]
    assert len(history) == 11
    assert [plateau.stopped for plateau in history] == [False] * 10 + [True]
    assert (history[-1].best_epoch, history[-1].best) == (9, 0.903859)


def test_the_first_evaluation_is_always_an_improvement():
    (plateau,) = run([0.0])
    assert plateau == Plateau(1e-3, best=0.0, best_epoch=1)
    assert plateau.improved


def test_the_rate_falls_to_its_floor_and_no_further():
    history = run([0.9] + [0.1] * 5, patience=99)
    assert [p.learning_rate for p in history] == pytest.approx(
        [1e-3, 1e-4, 1e-5, 1e-6, 1e-6, 1e-6], rel=1e-12
    )
    assert history[-1].learning_rate == 1e-6


def test_a_rate_below_the_floor_stays_as_it_is():
    assert [plateau.learning_rate for plateau in run([0.9, 0.8], learning_rate=1e-8)] == [1e-8, 1e-8]


@pytest.mark.parametrize(
    ("metric", "improved"),
    [(0.75, True), (0.75 + 2**-40, True), (0.75 - 2**-40, False), (0.5, False), (math.nan, False)],
)
def test_an_improvement_is_at_least_min_delta(metric, improved):
    first, second = run([0.5, metric], min_delta=0.25)  # sums exact in binary
    assert first.improved
    assert second.improved is improved
    assert second.best == (metric if improved else 0.5)
    assert second.best_epoch == (2 if improved else 1)
    assert second.learning_rate == (1e-3 if improved else pytest.approx(1e-4))


def test_small_steps_are_measured_from_the_best_and_not_from_the_last():
    history = run([0.5, 0.6, 0.7, 0.8], min_delta=0.25, patience=9)
    assert [plateau.best_epoch for plateau in history] == [1, 1, 1, 4]


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_patience_counts_evaluations_in_a_row(patience):
    almost = [0.2] * (patience - 1)
    history = run([0.5, *almost, 0.6, *almost, 0.7, *[0.2] * patience, 0.9], patience=patience)
    assert [plateau.stopped for plateau in history] == [False] * (len(history) - 1) + [True]
    assert history[-1].best == 0.7
    assert history[-1].bad_epochs == patience
    assert len(history) == 3 + 2 * (patience - 1) + patience


@pytest.mark.parametrize("metrics", [[], [0.5], [0.5, 0.4], [0.0, 0.6, 0.5, 0.4]])
def test_a_checkpoint_has_where_a_run_stands(metrics):
    (plateau,) = run(metrics)[-1:] or [Plateau(1e-3)]
    saved = json.loads(json.dumps(to_json(plateau), allow_nan=False))
    assert from_json(saved) == plateau
    assert from_json(saved | {"best": -math.inf}).best == -math.inf  # as version 0.1.0 wrote it
    assert (saved["best"] is None) == (metrics == [])
    assert plateau.best_epoch == (0 if not metrics else 1 + metrics.index(max(metrics)))


def test_zero_min_delta_lets_equal_metrics_count_as_progress():
    assert all(plateau.improved for plateau in run([0.5, 0.5, 0.5], min_delta=0.0))


@given(
    st.lists(st.integers(0, 12).map(lambda n: n / 16), min_size=1, max_size=30),
    st.integers(1, 4),
    st.sampled_from([0.0, 1 / 16, 1 / 8]),
    st.sampled_from([0.1, 0.5, 1.0]),
)
def test_any_curve_agrees_with_a_plain_loop(metrics, patience, min_delta, decay):
    learning_rate, best, best_epoch, waited = 0.01, None, 0, 0
    history = run(metrics, 0.01, patience=patience, min_delta=min_delta, decay=decay, min_learning_rate=1e-4)
    for epoch, plateau in enumerate(history, start=1):
        metric = metrics[epoch - 1]
        if best is None or metric - best >= min_delta:
            best, best_epoch, waited = metric, epoch, 0
        else:
            waited += 1
            learning_rate *= decay
            if learning_rate < 1e-4:
                learning_rate = 1e-4
        assert plateau.learning_rate == pytest.approx(learning_rate)
        assert (plateau.best, plateau.best_epoch, plateau.bad_epochs) == (best, best_epoch, waited)
        assert plateau.improved == (waited == 0)
        assert plateau.stopped == (waited == patience)
    assert plateau.stopped or len(history) == len(metrics)
