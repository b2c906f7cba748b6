import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ektf_jax.layers.dropout import dropout, hashed_bits

KEY = jax.random.key(2024)
ROWS, COLUMNS = SHAPE = (256, 512)
SIGMAS = 5  # the keys are fixed, so a bound that holds once holds always

draw = jax.jit(hashed_bits, static_argnums=1)
drop = jax.jit(dropout, static_argnums=1)


def masks(keys, length, rate=0.5):
    """Keep masks [keys, length], centred and scaled to unit variance, so that products are correlations."""
    draws = jax.jit(jax.vmap(lambda key: dropout(jnp.ones(length), rate, key)))(keys)
    kept = np.asarray(draws) != 0
    return (kept - (1 - rate)) / np.sqrt(rate * (1 - rate))


@functools.cache
def lattice():
    return masks(KEY[None], ROWS * COLUMNS).reshape(SHAPE)


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.3, 0.5, 0.9])
def test_elements_are_kept_with_the_right_probability_and_scaled_to_keep_the_mean(rate):
    x = np.linspace(1, 2, ROWS * COLUMNS, dtype=np.float32).reshape(SHAPE)
    y = np.asarray(drop(x, rate, KEY))
    kept = y != 0
    sigma = np.sqrt(rate * (1 - rate) / x.size)
    assert abs(kept.mean() - (1 - rate)) < SIGMAS * sigma
    np.testing.assert_allclose(y[kept], x[kept] / (1 - rate), rtol=1e-6)


def test_a_rate_that_rounds_to_all_keeps_next_to_nothing():
    assert np.count_nonzero(dropout(jnp.ones(1000), 0.9999999999, KEY)) == 0


def test_rate_zero_is_the_identity():
    x = jnp.arange(6.0)
    assert dropout(x, 0, KEY) is x
    assert dropout(x, 0.0, KEY) is x


@pytest.mark.parametrize("rate", [-0.1, 1, 1.0, 1.5, float("nan")])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(ValueError, match=r"dropout rate .* is outside \[0, 1\)"):
        dropout(jnp.ones(3), rate, KEY)


def test_a_higher_rate_drops_what_a_lower_one_drops_and_more():
    low, high = (np.asarray(drop(np.ones(SHAPE, np.float32), rate, KEY)) == 0 for rate in (0.1, 0.3))
    assert (high >= low).all()


@jax.jit
def folded(key, numbers):
    return jax.vmap(lambda number: jax.random.fold_in(key, number))(numbers)


def test_masks_of_steps_copies_and_layers_are_uncorrelated_also_at_small_lags():
    @jax.jit
    def keys_of_training():
        copies = jax.vmap(lambda key: jax.random.split(key, 2))(folded(KEY, jnp.arange(5))).ravel()
        return jax.vmap(folded, (0, None))(copies, jnp.arange(3)).ravel()

    reach, length = 8, 1 << 14
    kept = masks(keys_of_training(), length + 2 * reach).astype(np.float32)
    middle = kept[:, reach:-reach]
    for lag in range(-reach, reach + 1):
        correlation = middle @ kept[:, reach + lag : reach + lag + length].T / length
        if lag == 0:
            np.testing.assert_allclose(np.diag(correlation), 1, atol=0.05)
            np.fill_diagonal(correlation, 0)
        assert abs(correlation).max() < 6 / np.sqrt(length), lag  # the largest of 30 * 30 * 17


def test_keys_with_nearly_equal_first_halves_do_not_give_shifted_copies():
    keys = folded(KEY, jnp.arange(1 << 15))
    first = np.asarray(jax.jit(jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32)[0]))(keys))
    order = np.argsort(first)
    gaps = np.diff(first[order].astype(np.int64))
    for at in np.argsort(gaps)[:4]:
        lag, length = int(gaps[at]), 1 << 14
        assert lag < length  # among so many keys some windows overlap
        low, high = masks(keys[order[at : at + 2]], 2 * length)
        assert abs(low[lag : lag + length] @ high[:length] / length) < SIGMAS / np.sqrt(length)


def test_neighbours_in_rows_and_columns_are_uncorrelated():
    kept = lattice()
    for down in range(9):
        for right in range(-8, 9):
            if (down, right) > (0, 0):
                a = kept[down:, max(right, 0) : COLUMNS + min(right, 0)]
                b = kept[: ROWS - down, max(-right, 0) : COLUMNS - max(right, 0)]
                assert abs((a * b).sum()) < SIGMAS * np.sqrt(a.size), (down, right)


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_and_columns_are_dropped_as_often_as_chance_has_it(axis):
    kept = lattice()
    z = kept.sum(axis) / np.sqrt(kept.shape[axis])
    assert abs(z).max() < SIGMAS
    # The sum of n squares of a standard normal is n +- sqrt(2 n): neither streaks nor a lattice.
    assert abs((z**2).sum() - z.size) < SIGMAS * np.sqrt(2 * z.size)


def unpacked(words):
    return (np.asarray(words).ravel()[:, None] >> np.arange(32, dtype=np.uint32)) & 1


def test_every_bit_is_balanced_along_positions_and_uncorrelated_with_the_others():
    bits = unpacked(draw(KEY, SHAPE)) * 2.0 - 1
    correlation = bits.T @ bits / len(bits)
    np.fill_diagonal(correlation, 0)
    assert abs(bits.mean(axis=0)).max() < SIGMAS / np.sqrt(len(bits))
    assert abs(correlation).max() < SIGMAS / np.sqrt(len(bits))


def test_every_bit_is_balanced_along_consecutive_keys():
    keys = folded(KEY, jnp.arange(1 << 15))
    words = np.asarray(jax.jit(jax.vmap(lambda key: hashed_bits(key, (3,))))(keys))
    for position in range(3):
        bits = unpacked(words[:, position]) * 2.0 - 1
        assert abs(bits.mean(axis=0)).max() < SIGMAS / np.sqrt(len(bits))


def test_bits_depend_on_the_position_in_the_array_and_not_on_its_shape():
    bits = np.asarray(draw(KEY, (24,)))
    assert bits.dtype == np.uint32
    assert len(set(bits.tolist())) == 24
    np.testing.assert_array_equal(draw(KEY, (2, 3, 4)).ravel(), bits)
    np.testing.assert_array_equal(draw(KEY, (7,)), bits[:7])


def test_jit_vmap_and_scan_do_not_change_the_mask():
    keys = jax.random.split(KEY, 3)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 6)).astype(np.float32))
    one_by_one = np.stack([dropout(x[i], 0.4, keys[i]) for i in range(3)])
    assert len({tuple((copy == 0).ravel()) for copy in one_by_one}) == 3
    for y in (
        [drop(x[i], 0.4, keys[i]) for i in range(3)],
        jax.jit(jax.vmap(lambda row, key: dropout(row, 0.4, key)))(x, keys),
        jax.lax.map(lambda copy: dropout(copy[0], 0.4, copy[1]), (x, keys)),
    ):
        np.testing.assert_array_equal(np.asarray(y) == 0, one_by_one == 0)
        np.testing.assert_allclose(y, one_by_one, rtol=1e-6)


def test_the_gradient_is_that_of_the_same_mask():
    x, cotangent = np.random.default_rng(0).normal(size=(2, 40, 50)).astype(np.float32)
    rate = 0.3

    @jax.jit
    def both(x):
        y, pullback = jax.vjp(lambda x: dropout(x, rate, KEY), x)
        return y, pullback(cotangent)[0]

    y, gradient = both(x)
    kept = np.asarray(y) != 0
    assert 0 < kept.sum() < kept.size
    np.testing.assert_allclose(gradient, kept * cotangent / (1 - rate), rtol=1e-6)
