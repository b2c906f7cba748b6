"""DAGFM against its formula, field by field, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ektf_jax.students.dagfm import DAGFM

FIELDS, DIM, ROWS, DEPTH = 4, 3, 5, 2
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(ROWS, FIELDS, DIM))


@pytest.fixture(autouse=True, scope="module")
def float64():
    with jax.enable_x64(True):
        yield


def filled(interaction, **options):
    """A student with random values, and these by name."""
    make = nnx.eval_shape(
        lambda: DAGFM(FIELDS, DIM, interaction=interaction, depth=DEPTH, rngs=nnx.Rngs(0), **options)
    )
    graphdef, state = nnx.split(make)
    values = jax.tree.map(lambda leaf: jnp.asarray(RNG.normal(size=leaf.shape)), nnx.to_pure_dict(state))
    nnx.replace_by_pure_dict(state, values)
    return nnx.merge(graphdef, state), jax.tree.map(np.asarray, values)


def matrix(values, interaction, layer, i, j):
    """W_ij as [D, D], which multiplies the state of field i from the left."""
    weights = values["weights"][layer][i, j]
    if interaction == "inner":
        return np.diag(weights)
    if interaction == "outer":
        return np.outer(values["directions"][layer][i, j], weights)
    return weights.T


@pytest.mark.parametrize("interaction", ["inner", "outer", "kernel"])
def test_it_is_its_formula(interaction):
    student, values = filled(interaction)
    expected = []
    for row in EMBEDDINGS:
        first = [sum(values["mixture"][j, i] * row[i] for i in range(FIELDS)) for j in range(FIELDS)]
        states = [first]
        for layer in range(DEPTH):
            states.append(
                [
                    first[j]
                    * sum(matrix(values, interaction, layer, i, j) @ states[-1][i] for i in range(j + 1))
                    for j in range(FIELDS)
                ]
            )
        sums = np.array([field.sum() for state in states for field in state])
        expected.append(sums @ values["output"]["kernel"][:, 0] + values["output"]["bias"][0])
    np.testing.assert_allclose(student(EMBEDDINGS), expected, rtol=1e-9)


def test_no_message_goes_to_an_earlier_field():
    student, _ = filled("kernel")
    backwards = [(j, i) for i in range(FIELDS) for j in range(i + 1, FIELDS)]
    before = np.asarray(student(EMBEDDINGS))
    for weights in student.weights:
        for j, i in backwards:
            weights[...] = weights[...].at[j, i].set(100.0)
    np.testing.assert_array_equal(student(EMBEDDINGS), before)


def test_the_authors_initialisation():
    student = DAGFM(20, 16, interaction="outer", depth=1, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(student.mixture[...], np.eye(20))
    for weights in (student.weights[0], student.directions[0]):
        # Xavier normal with gain sqrt(2) of [F, F, D], whose fans are F * D in PyTorch.
        assert np.std(weights[...]) == pytest.approx(np.sqrt(2) * np.sqrt(2 / (2 * 20 * 16)), rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interaction": "cross"}, "interaction = 'cross' is unknown: use one of 'inner', 'outer', 'kernel'"),
        ({"depth": 0}, "depth = 0 must be"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DAGFM(FIELDS, DIM, rngs=nnx.Rngs(0), **options)
    with pytest.raises(ValueError, match="embedding dimension of at least 1"):
        DAGFM(FIELDS, 0, rngs=nnx.Rngs(0))
