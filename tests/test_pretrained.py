"""What pretrained vectors add to embeddings, beside a plain transcription in float64."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data.schema import make_fields
from ektf_jax.embedding import Embedding
from ektf_jax.ensemble import Ensemble, count_parameters
from ektf_jax.layers.pretrained import Frozen
from ektf_jax.students import AFN, FM, LR, MLP
from ektf_jax.summary import flops_per_sample, summarize
from ektf_jax.training.optimizer import make_average
from ektf_jax.training.vectors import rows_read
from tests.test_target_attention import filled, random_ids

DIM = 3


@pytest.fixture(scope="module", autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def fields_of(slots, numbers, frozen=True):
    """Of so many slots, and numbers of a vector, 0 for none."""
    laid = make_fields((f"f{i}", 5, one) for i, one in enumerate(slots))
    return tuple(
        replace(field, pretrained=count or None, frozen=frozen or not count)
        for field, count in zip(laid, numbers, strict=True)
    )


FIELDS = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 3), st.sampled_from(["mean", "sum"])), min_size=1, max_size=4
)


@settings(max_examples=8, deadline=None)  # each compiles
@given(FIELDS, st.integers(0, 2), st.booleans(), st.integers(0, 2**31))
def test_any_fields_agree_with_a_table_of_sums_in_value_and_gradient(kinds, wide, frozen, seed):
    """A row is that of a table of sums, and gradients are that table's by the chain rule."""
    slots, numbers, poolings = zip(*kinds, strict=True)
    fields = fields_of(slots, numbers, frozen)
    fields = tuple(replace(field, pooling=one) for field, one in zip(fields, poolings, strict=True))
    rng = np.random.default_rng(seed)
    model = filled(lambda: Embedding(fields, DIM + wide, wide=wide, rngs=nnx.Rngs(0)), seed)
    plain_fields = tuple(replace(field, pretrained=None, frozen=True) for field in fields)
    plain = filled(lambda: Embedding(plain_fields, DIM + wide, wide=wide, rngs=nnx.Rngs(0)), seed)
    table = np.array(model.table[...])
    sums = table.copy()
    given_fields = [field for field in fields if field.pretrained]
    parts: Any = [
        (
            slice(field.offset, field.offset + 5),
            *(np.array(x[...]) for x in (one.vectors, one.projection.kernel)),
        )
        for field, one in zip(given_fields, model.pretrained, strict=True)
    ]
    for rows, vectors, kernel in parts:
        sums[rows, :DIM] += vectors @ kernel
    np.testing.assert_allclose(rows_read(model), sums, atol=1e-12)
    ids = random_ids(fields, rng)
    cotangent = rng.normal(size=(len(ids), len(fields), DIM + wide))

    def through(module, ids):
        graphdef, state = nnx.split(module)
        found, pullback = jax.vjp(lambda state: nnx.merge(graphdef, state)(ids), state)
        return np.asarray(found), nnx.merge(graphdef, pullback(jnp.asarray(cotangent))[0])

    plain.table[...] = jnp.asarray(sums)
    expected, slope = through(plain, ids)
    found, gradient = through(model, ids)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    of_rows = np.asarray(slope.table[...])
    np.testing.assert_allclose(gradient.table[...], of_rows, atol=1e-12)
    for (rows, vectors, kernel), one in zip(parts, gradient.pretrained, strict=True):
        np.testing.assert_allclose(one.vectors[...], of_rows[rows, :DIM] @ kernel.T, atol=1e-12)
        np.testing.assert_allclose(one.projection.kernel[...], vectors.T @ of_rows[rows, :DIM], atol=1e-12)
        assert not np.any(one.vectors[0])  # padding
    frozen_leaves = jax.tree.leaves(nnx.state(model, Frozen))
    assert len(frozen_leaves) == (len(parts) if frozen else 0)


STUDENTS = [
    (partial(FM, wide="ids"), 2),
    (
        partial(AFN, dnn_embedding="own", logarithmic_neurons=3, afn_hidden_units=(4,), hidden_units=(3,)),
        1,
    ),
    (partial(MLP, hidden_units=(5,)), 1),
]
SIZE = 4


def ensemble(own_columns, fields, seed=0):
    options = {"embedding_dim": DIM, "own_columns": own_columns, "key": jax.random.key(3)}
    return filled(lambda: Ensemble(fields, STUDENTS, **options), seed)


@pytest.mark.parametrize("own_columns", [0, 1, DIM])
def test_students_that_are_cut_out_predict_as_before(own_columns):
    fields = fields_of([1, 3, 2], [2, 0, 3])
    model = ensemble(own_columns, fields)
    ids = random_ids(fields, np.random.default_rng(1))
    run = jax.jit(lambda model: model(ids).students)
    together = np.asarray(run(model))
    assert np.isfinite(together).all()
    for k in range(SIZE):
        alone = model.student(k)
        np.testing.assert_allclose(run(alone)[0], together[k], rtol=1e-9)
        read = model.read_columns()[k]
        np.testing.assert_allclose(
            rows_read(alone.embedding)[:, : len(read)], rows_read(model.embedding)[:, read], rtol=1e-12
        )
    np.testing.assert_allclose(run(model.subset([1, 2])), together[[1, 2]], rtol=1e-9)
    np.testing.assert_array_equal(run(model), together)  # and the model stays whole


def test_it_draws_after_all_else_and_no_column_depends_on_how_many_there_are():
    options = {"embedding_dim": DIM, "key": jax.random.key(3)}
    fields = fields_of([1, 2], [400, 0])
    plain = tuple(replace(field, pretrained=None) for field in fields)
    with_it, without = (Ensemble(f, STUDENTS, **options) for f in (fields, plain))
    found = dict(nnx.to_flat_state(nnx.state(with_it)))
    for path, leaf in nnx.to_flat_state(nnx.state(without)):
        np.testing.assert_array_equal(found[path][...], leaf[...])
    for own_columns in (0, DIM):
        model = Ensemble(fields, STUDENTS, own_columns=own_columns, **options)
        kernel = np.asarray(model.embedding.pretrained[0].projection.kernel[...])
        assert kernel.std() == pytest.approx(1 / 20, rel=0.1)
        assert not np.any(model.embedding.pretrained[0].vectors)


def test_the_summary_counts_them():
    fields = fields_of([1, 2], [7, 0])
    columns = DIM + DIM  # AFN's second embedding
    for frozen, parameters in ((True, 7 * columns), (False, 7 * columns + 5 * 7)):
        model = ensemble(0, (replace(fields[0], frozen=frozen), fields[1]))
        plain = ensemble(0, (replace(fields[0], pretrained=None), fields[1]))
        assert count_parameters(model) - count_parameters(plain) == parameters
        text = summarize(model, 2, depth=1)
        assert f"pretrained vectors of 1 fields: {parameters} parameters, {35 * frozen} numbers" in text


@pytest.mark.parametrize("frozen", [True, False])
def test_to_a_student_that_reads_no_embeddings_they_and_attention_add_nothing(frozen):
    """Logistic regression over the ids: no layer of theirs is without outputs, which no checkpoint holds."""
    fields = fields_of([1, 3], [2, 3], frozen)
    plain = tuple(replace(field, pretrained=None, frozen=True) for field in fields)
    attended = (fields[0], replace(fields[1], pooling="attention", target="f0"))
    options = {"embedding_dim": 0, "key": jax.random.key(3)}
    models = [
        filled(lambda f=f: Ensemble(f, [(partial(LR, wide="ids"), 2)], **options), 1)
        for f in (plain, fields, attended)
    ]
    ids = random_ids(fields, np.random.default_rng(1))
    expected, *found = (jax.jit(lambda model: model(ids).students)(model) for model in models)
    for one in found:
        np.testing.assert_array_equal(one, expected)
    assert all(leaf.size for model in models for leaf in jax.tree.leaves(nnx.state(model)))
    assert len({flops_per_sample(model, 2) for model in models}) == 1


def test_an_average_of_frozen_vectors_is_them():
    with jax.enable_x64(False):
        options = {"embedding_dim": DIM, "key": jax.random.key(0)}
        model = Ensemble(fields_of([1], [40]), [(partial(FM), 2)], **options)
        vectors = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
        model.embedding.pretrained[0].vectors[...] = jnp.asarray(vectors)
        _, parameters, statistics = nnx.split(model, nnx.Param, ...)
        weights = parameters, statistics
        average = jax.tree.map(jnp.copy, weights)
        update = make_average(weights, 0.9)
        for step in range(30):
            average = update(average, weights, jnp.int32(step))
        (found,) = jax.tree.leaves(average[1])
        np.testing.assert_array_equal(found, vectors)
