"""How FINAL's field gates start, and its own loss by weights. Values of the whole are in test_parity.py."""

import jax
import numpy as np
import pytest
from flax import nnx

from ektf_jax.students import FINAL
from ektf_jax.students.final import FieldGate

FIELDS, DIM = 40, 6


def gated(init):
    gate = FieldGate(FIELDS, init=init, rngs=nnx.Rngs(0))
    embeddings = jax.random.normal(jax.random.key(1), (3, FIELDS, DIM))
    return gate, np.asarray(embeddings), np.asarray(gate(embeddings))


def test_ones_repeat_the_embeddings():
    _, embeddings, output = gated("ones")
    np.testing.assert_array_equal(output, np.concatenate([embeddings, embeddings], axis=1))


def test_xavier_is_linear_in_the_same_dimension_of_all_fields():
    gate, embeddings, output = gated("xavier")
    kernel = np.asarray(gate.linear.kernel[...])
    # Xavier normal: a variance of 2 / (FIELDS + FIELDS)
    assert np.var(kernel) == pytest.approx(1 / FIELDS, rel=0.15)
    np.testing.assert_array_equal(gate.linear.bias[...], 0)
    gates = np.einsum("bfd,fg->bgd", embeddings, kernel)
    np.testing.assert_allclose(output[:, FIELDS:], embeddings * gates, rtol=1e-4, atol=1e-5)


def test_the_student_takes_the_start_of_its_gates():
    made = {
        init: FINAL(FIELDS, DIM, hidden_units=(4,), gate_init=init, rngs=nnx.Rngs(0))
        for init in ("ones", "xavier")
    }
    assert not np.any(made["ones"].gate.linear.kernel[...])
    assert np.all(made["xavier"].gate.linear.kernel[...])
    with pytest.raises(ValueError, match="gate_init = 'zeros' is unknown: use one of 'ones', 'xavier'"):
        FINAL(FIELDS, DIM, gate_init="zeros", rngs=nnx.Rngs(0))


def test_rows_without_a_weight_do_not_count_in_the_loss_of_two_blocks():
    model = FINAL(
        5, 4, blocks=2, hidden_units=(4,), hidden_units2=(6,), dropout=0.0, batch_norm=False, rngs=nnx.Rngs(0)
    )
    embeddings = jax.random.normal(jax.random.key(1), (8, 5, 4))
    _, expected = model(embeddings[:3], train=True)
    _, found = model(embeddings, train=True, sample_weights=np.array([2.0] * 3 + [0.0] * 5))
    assert found == pytest.approx(float(expected), rel=1e-6)
    assert found != pytest.approx(float(model(embeddings, train=True)[1]), rel=1e-3)
