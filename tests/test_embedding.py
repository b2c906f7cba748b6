import re
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from ektf_jax.data.schema import POOLINGS, Schema, make_fields
from ektf_jax.embedding import Embedding

DIM, ROWS = 3, 4


def make_schema(*fields):
    """From (vocab_size, max_len) per field, or (vocab_size, max_len, pooling)."""
    laid = make_fields((f"f{i}", v, m) for i, (v, m, *_) in enumerate(fields))
    pooled = (replace(field, pooling=(*one, "mean")[2]) for field, one in zip(laid, fields, strict=True))
    return Schema("tiny", tuple(pooled), {}, {})


def make_embedding(schema, dim=DIM, seed=0):
    return Embedding(schema.fields, dim, rngs=nnx.Rngs(seed))


def random_ids(schema, rng, padding):
    """Ids as an encoded dataset may hold them: a slot is padding, a known value of its field, or OOV."""
    columns = []
    for field in schema.fields:
        known = field.offset + rng.integers(1, field.vocab_size, (ROWS, field.max_len))
        columns.append(np.where(rng.random(known.shape) < padding, 0, known))
    return np.concatenate(columns, axis=1).astype(np.int32)


def looked_up(schema, table, ids, cotangent):
    """Field embeddings, and the gradient of sum(embeddings * cotangent) in the table: one loop for both."""
    embeddings, gradient = np.zeros((len(ids), schema.num_fields, DIM)), np.zeros(table.shape)
    for row in range(len(ids)):
        for i, (start, stop) in enumerate(schema.slots):
            filled = [int(slot) for slot in ids[row, start:stop] if slot != 0]
            if filled and schema.fields[i].pooling == "max":
                embeddings[row, i] = table[filled].max(axis=0)
                first = table[filled].argmax(axis=0)  # of equal ones: they are one row of the table
                gradient[np.array(filled)[first], np.arange(DIM)] += cotangent[row, i]
                continue
            share = 1 if schema.fields[i].pooling == "sum" else len(filled)
            for slot in filled:
                embeddings[row, i] += table[slot] / share
                gradient[slot] += cotangent[row, i] / share
    return embeddings, gradient


def looked_up_by_module(schema, table, ids, cotangent):
    def embed(table):
        model = make_embedding(schema)
        model.table[...] = table
        return model(ids)

    @jax.jit
    def both(table):
        embeddings, pullback = jax.vjp(embed, table)
        return embeddings, pullback(cotangent)[0]

    return map(np.asarray, both(table))


def assert_agrees_with_the_loop(schema, ids, rng):
    # Nothing is zero here, so a padding row that leaks in shows, as does a gradient that leaks out.
    table = rng.normal(size=(schema.num_features, DIM)).astype(np.float32)
    cotangent = rng.normal(size=(len(ids), schema.num_fields, DIM)).astype(np.float32)
    embeddings, gradient = looked_up_by_module(schema, table, ids, cotangent)
    expected, expected_gradient = looked_up(schema, table, ids, cotangent)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, atol=2e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=5e-6)
    assert not gradient[[field.offset for field in schema.fields]].any()
    return embeddings


@settings(max_examples=10, deadline=None)  # each compiles once
@given(
    st.lists(
        st.tuples(st.integers(2, 6), st.integers(1, 4), st.sampled_from(POOLINGS)), min_size=1, max_size=5
    ),
    st.sampled_from([0.0, 0.3, 0.7]),
    st.integers(0, 2**31),
)
def test_any_fields_agree_with_a_loop_in_value_and_gradient(fields, padding, seed):
    schema, rng = make_schema(*fields), np.random.default_rng(seed)
    assert_agrees_with_the_loop(schema, random_ids(schema, rng, padding), rng)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_field_without_values_is_zero_and_gives_no_gradient(pooling):
    fields = (4, 1, pooling), (5, 3, pooling), (3, 1, pooling), (4, 3, pooling)
    schema, rng = make_schema(*fields), np.random.default_rng(0)
    ids = random_ids(schema, rng, 0.0)
    for row, (start, stop) in enumerate(schema.slots):
        ids[row, start:stop] = 0
    embeddings = assert_agrees_with_the_loop(schema, ids, rng)
    for row in range(ROWS):
        assert [bool(field.any()) for field in embeddings[row]] == [i != row for i in range(4)]


def test_the_mean_counts_filled_slots_wherever_they_are_and_repeated_ids_twice():
    schema, rng = make_schema((3, 2), (6, 4)), np.random.default_rng(1)
    ids = np.array([[2, 0, 4, 4, 0, 5], [0, 2, 0, 0, 0, 8], [1, 2, 7, 6, 5, 4]], np.int32)
    assert_agrees_with_the_loop(schema, ids, rng)


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_slots_are_pooled_wherever_they_are_and_repeated_ids_count(pooling):
    schema, rng = make_schema((3, 2, pooling), (6, 4, pooling), (4, 2)), np.random.default_rng(1)
    ids = [[2, 0, 4, 4, 0, 5, 0, 11], [0, 2, 0, 0, 0, 8, 10, 12], [1, 2, 7, 6, 5, 4, 10, 10]]
    assert_agrees_with_the_loop(schema, np.array(ids, np.int32), rng)


def test_a_maximum_below_zero_is_not_that_of_the_padding():
    schema = make_schema((5, 3, "max"))
    model = make_embedding(schema)
    model.table[...] = -np.arange(15, dtype=np.float32).reshape(5, DIM) - 1
    found = np.asarray(model(np.array([[2, 3, 0], [0, 0, 0]])))
    np.testing.assert_array_equal(found, [[[-7, -8, -9]], [[0, 0, 0]]])


def test_equal_values_share_the_gradient_of_a_maximum():
    model = make_embedding(make_schema((5, 3, "max")))
    model.table[...] = np.full((5, DIM), -2, np.float32)
    gradient = nnx.grad(lambda model: model(np.array([[2, 0, 3]])).sum())(model).table[...]
    np.testing.assert_array_equal(gradient, [[0] * DIM, [0] * DIM, [0.5] * DIM, [0.5] * DIM, [0] * DIM])


@settings(max_examples=10, deadline=None)  # each compiles once
@given(
    st.lists(st.sampled_from([(4, 1), (5, 3), (3, 1, "dense")]), min_size=1, max_size=6),
    st.integers(0, 2**31),
)
def test_a_dense_field_is_its_number_times_its_row_in_value_and_gradient(kinds, seed):
    schema = make_schema(*(kind[:2] for kind in kinds))
    numbers = [kind[2:] == ("dense",) for kind in kinds]
    scaled = zip(schema.fields, numbers, strict=True)
    fields = tuple(replace(field, scale=(0.0, 1.0) if dense else None) for field, dense in scaled)
    rng = np.random.default_rng(seed)
    ids = random_ids(schema, rng, 0.3)
    table = rng.normal(size=(schema.num_features, DIM)).astype(np.float32)
    cotangent = rng.normal(size=(ROWS, len(kinds), DIM)).astype(np.float32)
    dense = rng.normal(size=(ROWS, sum(numbers))).astype(np.float32) if any(numbers) else None
    factor = np.ones((ROWS, len(kinds), 1))
    if dense is not None:
        factor[:, numbers, 0] = dense
    embeddings, gradient = looked_up(schema, table, ids, cotangent * factor)

    def embed(table):
        model = Embedding(fields, DIM, rngs=nnx.Rngs(0))
        model.table[...] = table
        return model(ids, dense)

    found, pullback = jax.vjp(embed, table)
    np.testing.assert_allclose(found, embeddings * factor, atol=1e-5)
    np.testing.assert_allclose(pullback(cotangent)[0], gradient, atol=1e-5)


@pytest.mark.parametrize(
    ("scale", "dense"), [((0.0, 1.0), None), (None, np.ones((1, 1))), ((0.0, 1.0), np.ones((1, 2)))]
)
def test_numbers_that_do_not_come_or_that_no_field_reads_are_an_error(scale, dense):
    fields = [replace(field, scale=scale) for field in make_schema((3, 1)).fields]
    with pytest.raises(ValueError, match="dense fields, and dense is"):
        Embedding(fields, DIM, rngs=nnx.Rngs(0))(np.ones((1, 1), int), dense)


@pytest.mark.parametrize("shape", [(4,), (1, 3), (1, 5), (2, 1, 4), (0, 4)])
def test_ids_of_another_shape_are_an_error(shape):
    embedding = Embedding(make_schema((3, 1), (4, 3)).fields, DIM, rngs=nnx.Rngs(0))
    assert embedding(np.ones((1, 4), int)).shape == (1, 2, DIM)
    with pytest.raises(ValueError, match=rf"expected ids \[B, 4\], .* got shape {re.escape(str(shape))}"):
        embedding(np.ones(shape, int))


def test_weights_of_linear_models_are_summed_whatever_the_pooling():
    fields = [make_schema((5, 3, pooling)).fields for pooling in POOLINGS]
    models = [Embedding(one, DIM, own=1, wide=1, rngs=nnx.Rngs(0)) for one in fields]
    ids = np.array([[1, 0, 2], [4, 4, 3]])
    for model in models:
        expected = np.asarray(model.table[...])[ids, -1].sum(axis=1)
        np.testing.assert_allclose(np.asarray(model(ids))[:, 0, -1], expected, rtol=1e-6)


def test_a_single_slot_is_itself_by_any_pooling_and_the_same_program():
    ids = np.array([[1, 5], [0, 6]])

    def program(pooling):
        model = make_embedding(make_schema((4, 1, pooling), (4, 1)))
        return jax.jit(lambda ids: model(ids)).lower(ids).as_text()

    assert program("max") == program("sum") == program("mean")


@pytest.fixture(scope="module")
def schema():
    return make_schema((400, 1), (30, 5), (300, 1))


@pytest.fixture(scope="module")
def table(schema):
    return np.asarray(make_embedding(schema, dim=32).table[...])


def test_the_table_has_one_row_per_feature(schema, table):
    assert table.shape == (schema.num_features, 32) == (730, 32)
    assert table.dtype == np.float32


def test_the_table_starts_normal_with_deviation_1e_4_and_zero_padding_rows(schema, table):
    padding = [field.offset for field in schema.fields]
    assert not table[padding].any()
    values = np.delete(table, padding, axis=0) / 1e-4
    assert np.all(values != 0)
    sigma = 1 / np.sqrt(values.size)
    assert abs(values.mean()) < 4 * sigma
    assert abs(values.std() - 1) < 4 * sigma / np.sqrt(2)
    assert abs((values**4).mean() - 3) < 0.3


def test_the_seed_decides_the_table(schema, table):
    np.testing.assert_array_equal(make_embedding(schema, 32).table[...], table)
    assert (np.asarray(make_embedding(schema, 32, seed=1).table[...]) != table).mean() > 0.9
