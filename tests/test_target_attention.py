"""Attention of a list to a target, beside plain loops. All is float64: what differs is what is computed."""

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

from ektf_jax.bundle import onnx
from ektf_jax.data.schema import ATTENTION, make_fields
from ektf_jax.embedding import Embedding
from ektf_jax.ensemble import Ensemble, count_parameters
from ektf_jax.errors import InputError
from ektf_jax.layers.target_attention import HIDDEN_UNITS
from ektf_jax.sharding import path_name
from ektf_jax.students import AFN, FM, MLP
from ektf_jax.summary import flops_per_sample, summarize

ROWS, STEP = 5, 1e-6


@pytest.fixture(scope="module", autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def fields_of(slots, targets):
    """Fields f0, f1, ... of so many slots, of which some attend to one of one slot, by number."""
    laid = make_fields((f"f{i}", 5, one) for i, one in enumerate(slots))
    return tuple(
        field if to is None else replace(field, pooling=ATTENTION, target=f"f{to}")
        for field, to in zip(laid, targets, strict=True)
    )


def filled(make, seed=0):
    """What `make` makes, with random float64 values everywhere, padding rows too."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        positive = path_name(path).endswith("var")
        return jnp.asarray(rng.uniform(0.5, 2, leaf.shape) if positive else rng.normal(size=leaf.shape))

    graphdef, state = nnx.split(nnx.eval_shape(make))
    values = nnx.to_pure_dict(state)
    nnx.replace_by_pure_dict(state, jax.tree_util.tree_map_with_path(draw, values))
    return nnx.merge(graphdef, state)


def random_ids(fields, rng, rows=ROWS):
    """Slots are empty, known or OOV; a field of one value has one always."""
    columns = []
    for field in fields:
        ids = field.offset + rng.integers(1, field.vocab_size, (rows, field.max_len))
        empty = rng.random(ids.shape) < (0 if field.max_len == 1 and field.target is None else 0.4)
        columns.append(np.where(empty, 0, ids))
    return np.concatenate(columns, axis=1)


def parameters_of(embedding):
    """The table and, per attended field and stack of units, its hidden kernel and bias and its output's."""
    units = [
        [
            [
                np.array(part[...], float)
                for layer in (stack.copies.hidden_layers.linears[0], stack.copies.output)
                for part in (layer.kernel, layer.bias)
            ]
            for stack in attention.units
        ]
        for attention in embedding.attention
    ]
    return np.array(embedding.table[...], float), units


def embedded(fields, regions, wide, table, units, ids):
    """Row by row, value by value: [B, F, C]."""
    starts = np.cumsum([0, *(field.max_len for field in fields)])
    names = [field.name for field in fields]
    found = np.zeros((len(ids), len(fields), table.shape[1]))
    for row, cells in enumerate(ids):
        attended = iter(units)
        for f, field in enumerate(fields):
            values = [table[one] for one in cells[starts[f] : starts[f + 1]] if one]
            if field.target is None:
                found[row, f] = np.mean(values, axis=0) if values else 0
                if wide:
                    found[row, f, -wide:] = np.sum(values, axis=0)[-wide:] if values else 0
                continue
            to = cells[starts[names.index(field.target)]]
            target = table[to] if to else np.zeros(table.shape[1])
            stacks, column = iter(next(attended)), 0
            for copies, widths in regions:
                read = [next(stacks) for _ in filter(None, widths)]
                for copy in range(copies):
                    for width, (hidden, bias, out, last) in zip(filter(None, widths), read, strict=True):
                        at = slice(column, column + width)
                        for value in values:
                            v, t = value[at], target[at]
                            x = np.concatenate([t, v, t - v, t * v]) @ hidden[copy] + bias[copy]
                            found[row, f, at] += (np.maximum(x, 0) @ out[copy] + last[copy]) * v
                        column += width
            if wide and values:
                found[row, f, -wide:] = np.sum(values, axis=0)[-wide:]
    return found


def make(fields, regions, wide):
    dim = sum(copies * sum(widths) for copies, widths in regions) + wide
    return Embedding(fields, dim, own=0, wide=wide, regions=regions, rngs=nnx.Rngs(0))


LISTS = st.lists(st.integers(1, 3), min_size=1, max_size=3)
REGIONS = st.lists(
    st.tuples(st.integers(1, 3), st.sampled_from([(2,), (1, 2), (0, 1), (0, 0)])), min_size=1, max_size=3
)


@settings(max_examples=8, deadline=None)  # each compiles
@given(LISTS, REGIONS, st.integers(0, 2), st.integers(0, 2**31), st.data())
def test_any_lists_and_columns_agree_with_loops_in_value_and_gradient(lists, regions, wide, seed, data):
    """Gradients are those of the loops, by differences along random directions."""
    slots = [1, *lists, 1, 2]
    singles = [0, len(slots) - 2]
    targets = [None, *(data.draw(st.sampled_from([*singles, None])) for _ in lists), None, None]
    fields = fields_of(slots, targets)
    rng = np.random.default_rng(seed)
    embedding = filled(partial(make, fields, regions, wide), seed)
    ids = random_ids(fields, rng)
    ids[0] = np.where(np.arange(len(ids[0])) == 0, ids[0], 0)  # a row of a single value
    table, units = parameters_of(embedding)
    expected = embedded(fields, regions, wide, table, units, ids)
    graphdef, state = nnx.split(embedding)
    found, pullback = jax.vjp(jax.jit(lambda state: nnx.merge(graphdef, state)(ids)), state)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    cotangent = rng.normal(size=expected.shape)
    gradient = nnx.merge(graphdef, pullback(jnp.asarray(cotangent))[0])
    of_table, of_units = parameters_of(gradient)
    assert not of_table[[field.offset for field in fields]].any()  # padding learns nothing
    values, slopes = jax.tree.leaves((table, units)), jax.tree.leaves((of_table, of_units))
    for value, slope in zip(values, slopes, strict=True):
        direction = rng.normal(size=value.shape)
        before = value.copy()
        sides = []
        for sign in (1, -1):
            value[...] = before + sign * STEP * direction
            sides.append(np.sum(embedded(fields, regions, wide, table, units, ids) * cotangent))
        value[...] = before
        difference = (sides[0] - sides[1]) / (2 * STEP)
        np.testing.assert_allclose(np.sum(slope * direction), difference, rtol=1e-5, atol=1e-5)


LIST = fields_of([1, 4], [None, 0])


def test_empty_slots_count_nothing_wherever_they_are_and_an_empty_list_is_zero():
    embedding = filled(partial(make, LIST, [(1, (3,))], 0))
    run = jax.jit(lambda ids: embedding(ids)[:, 1])
    found = np.asarray(run(np.array([[1, 6, 7, 0, 0], [1, 0, 7, 0, 6], [1, 0, 0, 0, 0], [2, 6, 7, 0, 0]])))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
    assert not found[2].any()
    assert np.abs(found[0] - found[3]).max() > 1e-3  # another target, another vector
    gradient = jax.jit(nnx.grad(lambda embedding: embedding(np.array([[1, 0, 0, 0, 0]]))[:, 1].sum()))(
        embedding
    )
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradient))  # NaN would count as something


def test_a_list_of_one_slot_is_weighed_too():
    fields = fields_of([1, 1], [None, 0])
    embedding = filled(partial(make, fields, [(1, (3,))], 0))
    ids = np.array([[1, 6], [2, 6], [2, 0]])
    table, units = parameters_of(embedding)
    expected = embedded(fields, [(1, (3,))], 0, table, units, ids)
    np.testing.assert_allclose(embedding(ids), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": "f7"}, "field f1: target 'f7' is unknown; .*valid: f0"),
        (
            {"target": "f1"},
            "field f1: target is 'f1', which is multi-valued; it must be a field of one value",
        ),
        ({"target": None}, "field f1: pooling is 'attention', target None"),
        ({"pooling": "sum"}, "field f1: pooling is 'sum', target 'f0'"),
        ({"max_len": 1, "scale": (0.0, 1.0)}, "field f1: .*which a dense field cannot have"),
    ],
)
def test_a_target_that_is_none(change, said):
    fields = (LIST[0], replace(LIST[1], **change))
    with pytest.raises(InputError, match=said):
        Embedding(fields, 3, rngs=nnx.Rngs(0))
    dense = (replace(LIST[0], scale=(0.0, 1.0)), LIST[1])
    with pytest.raises(InputError, match="target is 'f0', which is dense"):
        Embedding(dense, 3, rngs=nnx.Rngs(0))


DIM = 4
FIELDS = fields_of([1, 3, 1, 2], [None, 2, None, 0])
STUDENTS = [
    (partial(FM, wide="ids"), 2),
    (
        partial(AFN, dnn_embedding="own", logarithmic_neurons=3, afn_hidden_units=(4,), hidden_units=(3,)),
        2,
    ),
    (partial(MLP, hidden_units=(5,)), 1),
]
SIZE = 5


def ensemble(own_columns=0, fields=FIELDS, seed=0):
    options = {"embedding_dim": DIM, "own_columns": own_columns, "key": jax.random.key(3)}
    return filled(lambda: Ensemble(fields, STUDENTS, **options), seed)


@pytest.mark.parametrize("own_columns", [0, 1, DIM])
def test_students_that_are_cut_out_predict_as_before(own_columns):
    model = ensemble(own_columns)
    ids = random_ids(FIELDS, np.random.default_rng(1))
    run = jax.jit(lambda model: model(ids).students)
    together = np.asarray(run(model))
    assert np.isfinite(together).all()
    for k in range(SIZE):
        alone = model.student(k)
        np.testing.assert_allclose(run(alone)[0], together[k], rtol=1e-9)
        again = alone.subset([0])
        for one, other in zip(*(jax.tree.leaves(nnx.state(m)) for m in (alone, again)), strict=True):
            np.testing.assert_array_equal(one, other)
    few = model.subset([1, 2, 4])
    np.testing.assert_allclose(run(few), together[[1, 2, 4]], rtol=1e-9)
    np.testing.assert_allclose(run(few.student(1))[0], together[2], rtol=1e-9)
    np.testing.assert_array_equal(run(model), together)  # and the model stays whole


@pytest.mark.parametrize("own_columns", [0, 1, DIM])
def test_a_student_is_attended_by_what_is_shared_and_by_units_of_its_own(own_columns):
    model = ensemble(own_columns)
    ids = random_ids(FIELDS, np.random.default_rng(1))
    graphdef, units, rest = nnx.split(model, lambda path, _: "attention" in path, ...)
    run = jax.jit(jax.jacobian(lambda units: jnp.sum(nnx.merge(graphdef, units, rest)(ids).students, axis=1)))
    found = nnx.to_pure_dict(run(units))["embedding"]["attention"]
    for field, attention in enumerate(model.embedding.attention):
        for k, columns in enumerate(model.read_columns()):
            depends = {
                (unit, copy)
                for unit, stack in found[field]["units"].items()
                for copy, slope in enumerate(stack["copies"]["output"]["bias"][k])
                if np.any(slope)
            }
            assert set(attention.reads(columns)) == depends
            # What is shared, its own part of the columns, and the second embedding of an AFN.
            assert len(depends) == (own_columns < DIM) + (own_columns > 0) + (k in (2, 3))


def test_one_that_has_its_table_to_itself_is_as_if_it_were_alone():
    """Given what a student has of table and units, an ensemble of it alone, over a table of all, is it."""
    model = ensemble(DIM)
    ids = random_ids(FIELDS, np.random.default_rng(1))
    together = model(ids).students
    first = 0
    makers: Any = STUDENTS
    for make_student, size in makers:
        for k in range(first, first + size):
            alone = Ensemble(FIELDS, [(make_student, 1)], embedding_dim=DIM, key=jax.random.key(0))
            nnx.update(alone, nnx.to_pure_dict(nnx.state(model.student(k))))  # of the same shapes
            np.testing.assert_allclose(alone(ids).students[0], together[k], rtol=1e-9)
        first += size


def test_units_that_are_written_out_one_by_one_are_those_of_one_product():
    model = ensemble(1)
    ids = random_ids(FIELDS, np.random.default_rng(1))
    found = onnx.prepared(model)
    units = [stack for attention in found.embedding.attention for stack in attention.units]
    assert units
    assert all(stack.unrolled for stack in units)
    np.testing.assert_allclose(found.embedding(ids), model.embedding(ids), rtol=1e-12)
    assert not model.embedding.attention[0].units[0].unrolled


def test_attention_draws_after_all_else():
    options = {"embedding_dim": DIM, "own_columns": 1, "key": jax.random.key(3)}
    plain = tuple(replace(field, pooling="mean", target=None) for field in FIELDS)
    with_it, without = (nnx.state(Ensemble(fields, STUDENTS, **options)) for fields in (FIELDS, plain))
    found = dict(nnx.to_flat_state(with_it))
    for path, leaf in nnx.to_flat_state(without):
        np.testing.assert_array_equal(found[path][...], leaf[...])
    units = [leaf for path, leaf in found.items() if "attention" in path]
    kernels = [np.asarray(leaf[...]) for leaf in units if leaf[...].ndim == 3]
    assert all(len(np.unique(kernel)) == kernel.size for kernel in kernels)  # every copy has its own


def test_the_summary_counts_units():
    model = ensemble(1)
    plain = ensemble(1, tuple(replace(field, pooling="mean", target=None) for field in FIELDS))
    # Of either list: one for the 3 shared columns, 5 for one each, 2 for 4 of AFN's second embedding.
    (hidden,) = HIDDEN_UNITS
    units = [(3, 1), (1, SIZE), (4, 2)]
    parameters = 2 * sum(copies * (4 * width * hidden + 2 * hidden + 1) for width, copies in units)
    assert count_parameters(model) - count_parameters(plain) == parameters
    flops = flops_per_sample(model, 4) - flops_per_sample(plain, 4)
    products = (3 + 2) * sum(copies * 2 * (4 * width + 1) * hidden for width, copies in units)
    assert products < flops < 1.3 * products
    text = summarize(model, 4, depth=1)
    assert f"attention of 2 fields to others: {parameters:,} parameters and {flops:,} FLOPs" in text
    assert f"ensemble by mean: {count_parameters(model):,} parameters, {flops_per_sample(model, 4):,}" in text
    assert f"the table is {8 * model.embedding.table.size / 2**20:.2f} MiB" in text
    assert "attention" not in summarize(plain, 4, depth=1)
