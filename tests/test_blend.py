"""A blend of members whose logits are known, beside numpy."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from ektf_jax.blend import Blend
from ektf_jax.ensemble import Prediction

IDS = np.zeros((5, 1), np.int32)
LOGITS = np.random.default_rng(0).normal(size=(6, 5)) * 3


class Known(nnx.Module):
    """A member that predicts these rows of LOGITS, and an ensemble that does not count."""

    def __init__(self, rows):
        self.rows = tuple(rows)

    @property
    def num_students(self):
        return len(self.rows)

    def __call__(self, ids, *, dense=None):
        return Prediction(jax.numpy.asarray(LOGITS[list(self.rows)]), jax.numpy.full(len(ids), np.nan))

    def student(self, k):
        return Known(self.rows[k : k + 1])

    def subset(self, ks):
        return Known([self.rows[k] for k in ks])


WEIGHTS = [0.05, 0.1, 0.2, 0.3, 0.15, 0.2]


def blend_of(members: Any, weights: list[float], of: Any = "logits") -> Blend:
    return Blend(members, weights, of=of)


@pytest.fixture(autouse=True, scope="module")
def float64():
    with jax.enable_x64(True):
        yield


def made(of="logits"):
    """Six students of three members, of which the second is a blend."""
    inner = blend_of([Known([1, 2]), Known([3])], [0.5, 0.3, 0.2])
    return blend_of([Known([0]), inner, Known([4, 5])], WEIGHTS, of=of)


def mean(weights, logits, of):
    if of == "logits":
        return weights @ logits
    p = np.asarray(weights) @ (1 / (1 + np.exp(-logits)))
    return np.log(p / (1 - p))


@pytest.mark.parametrize("of", ["logits", "probabilities"])
def test_students_come_in_the_order_of_members_and_weigh_as_the_blend_says(of):
    """Whatever a member that is a blend makes of its own."""
    blend = made(of)
    assert blend.num_students == 6
    found = blend(IDS)
    np.testing.assert_array_equal(found.students, LOGITS)
    np.testing.assert_allclose(found.ensemble, mean(WEIGHTS, LOGITS, of), rtol=1e-12)


@pytest.mark.parametrize("of", ["logits", "probabilities"])
@pytest.mark.parametrize("ks", [[0], [2, 3], [0, 3, 5], [1, 2, 3, 4], range(6)])
def test_some_of_them_weigh_as_they_did_beside_each_other(ks, of):
    few = made(of).subset(ks)
    kept = [WEIGHTS[k] for k in ks]
    found = few(IDS)
    np.testing.assert_array_equal(found.students, LOGITS[list(ks)])
    expected = mean(np.divide(kept, sum(kept)), LOGITS[list(ks)], of)
    np.testing.assert_allclose(found.ensemble, expected, rtol=1e-12)


def test_a_student_is_cut_out_of_its_member():
    for k in range(6):
        assert made().student(k).rows == (k,)
    for k in (-1, 6):
        with pytest.raises(IndexError, match=f"there is no student {k}: the ensemble has 6"):
            made().student(k)
        with pytest.raises(IndexError, match=f"there is no student {k}: the ensemble has 6"):
            made().subset([0, k])


@pytest.mark.parametrize("sign", [-1, 1])
def test_probabilities_next_to_0_and_1_are_not_rounded_away(sign, monkeypatch):
    monkeypatch.setitem(globals(), "LOGITS", np.tile([[sign * 200.0], [sign * 300.0]], (3, 5)))
    blend = blend_of([Known([0, 1])], [0.5, 0.5], of="probabilities")
    np.testing.assert_allclose(blend(IDS).ensemble, sign * (200 + np.log(2)), rtol=1e-9)


def test_what_is_no_blend_is_refused():
    with pytest.raises(ValueError, match="a blend of 'ranks' is unknown: use one of logits, probabilities"):
        blend_of([Known([0])], [1.0], of="ranks")
    with pytest.raises(ValueError, match="2 weights of 1 students"):
        blend_of([Known([0])], [0.5, 0.5])
