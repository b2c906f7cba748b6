import itertools
import json

import numpy as np
import pytest

from ektf_jax.data import encoded, loader
from ektf_jax.data.encoded import Split
from ektf_jax.data.loader import Batch, ShuffledBatches, evaluation_batches, training_batches

SLOTS, EPOCHS = 3, 3


def make_split(rows):
    """Rows that can be told apart: row i has ids 3 i + 1 to 3 i + 3, label, weight and number of its own."""
    ids = np.arange(1, SLOTS * rows + 1, dtype=np.int32).reshape(rows, SLOTS)
    labels = np.random.default_rng(0).integers(0, 2, rows).astype(np.float32)
    numbers = np.arange(rows, dtype=np.float32)
    return Split(ids, labels, numbers, numbers[:, None])


def load(split, batch_size, *, seed=7, epochs=EPOCHS):
    return training_batches(split, batch_size, seed=seed, epochs=epochs)


def row_numbers(batches):
    return np.concatenate([(batch.ids[:, 0] - 1) // SLOTS for batch in batches])


def by_epoch(split, batch_size, **options):
    """The batches of each epoch."""
    iterator, size = load(split, batch_size, **options)
    batches = list(iterator)
    return [batches[start : start + size] for start in range(0, len(batches), size)]


@pytest.mark.parametrize(("rows", "batch_size"), [(23, 5), (20, 5), (5, 5), (3, 5), (1, 1), (11, 10)])
def test_an_epoch_has_every_row_once_with_its_label_and_a_short_last_batch(rows, batch_size):
    split = make_split(rows)
    epochs = by_epoch(split, batch_size)
    assert len(epochs) == EPOCHS
    for batches in epochs:
        full, rest = divmod(rows, batch_size)
        assert [len(batch.labels) for batch in batches] == [batch_size] * full + [rest] * (rest > 0)
        order = row_numbers(batches)
        assert sorted(order) == list(range(rows))
        np.testing.assert_array_equal(np.concatenate([batch.ids for batch in batches]), split.ids[order])
        np.testing.assert_array_equal(
            np.concatenate([batch.labels for batch in batches]), split.labels[order]
        )
        np.testing.assert_array_equal(np.concatenate([batch.weights for batch in batches]), order)


def test_batches_are_int32_ids_and_float32_labels():
    batches, _ = load(make_split(23), 5)
    for batch in batches:
        assert isinstance(batch, Batch)
        assert (batch.ids.dtype, batch.labels.dtype) == (np.int32, np.float32)
        assert batch.ids.shape == (len(batch.labels), SLOTS)


def test_the_number_of_batches_per_epoch_counts_the_short_one():
    for rows, batch_size, expected in ((23, 5, 5), (20, 5, 4), (3, 5, 1)):
        batches, per_epoch = load(make_split(rows), batch_size)
        assert per_epoch == expected
        assert len(list(batches)) == EPOCHS * expected


def test_the_order_depends_on_seed_and_epoch_only():
    split = make_split(40)
    orders = [row_numbers(batches).tolist() for batches in by_epoch(split, 7)]
    assert [row_numbers(batches).tolist() for batches in by_epoch(split, 7)] == orders
    assert [row_numbers(batches).tolist() for batches in by_epoch(split, 16)] == orders
    assert [row_numbers(batches).tolist() for batches in by_epoch(split, 7, epochs=5)][:EPOCHS] == orders
    others = [row_numbers(batches).tolist() for batches in by_epoch(split, 7, seed=8)]
    everything = [list(range(40)), *orders, *others]
    assert len({tuple(order) for order in everything}) == len(everything)


def test_the_order_of_a_seeds_second_epoch_is_not_that_of_the_next_seeds_first():
    split = make_split(40)
    second_of_7 = row_numbers(by_epoch(split, 40, seed=7)[1])
    first_of_8 = row_numbers(by_epoch(split, 40, seed=8)[0])
    assert second_of_7.tolist() != first_of_8.tolist()


def test_shuffling_moves_rows_anywhere():
    positions = np.zeros((400, 10))
    source = ShuffledBatches(make_split(10), 10, seed=0, epochs=400)
    for epoch in range(400):
        positions[epoch] = row_numbers([source[epoch]])
    # Each row is at each position in a tenth of the epochs: 40 of 400, give or take 6.
    for row in range(10):
        assert abs((positions == row).sum(axis=0) - 40).max() < 30


def assert_same(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        np.testing.assert_array_equal(batch.ids, other.ids)
        np.testing.assert_array_equal(batch.labels, other.labels)


@pytest.mark.parametrize("position", [0, 1, 3, 4, 5, 6, 14, 15])
def test_a_restored_position_gives_the_remaining_batches(position):
    # 5 batches an epoch: in the middle of one, at its last batch, at the boundary, after it, and at the end.
    split = make_split(23)
    everything = list(load(split, 5)[0])
    batches, _ = load(split, 5)
    for _ in range(position):
        next(batches)
    state = json.loads(json.dumps(batches.get_state()))
    assert_same(batches, everything[position:])  # asking for the state moves nothing

    fresh, _ = load(split, 5)
    fresh.set_state(state)
    assert_same(fresh, everything[position:])

    used, _ = load(split, 5)
    for _ in range(7):
        next(used)
    used.set_state(state)
    assert_same(used, everything[position:])


def test_more_epochs_can_follow_a_restored_position():
    split = make_split(23)
    batches, _ = load(split, 5, epochs=2)
    for _ in range(8):
        next(batches)
    longer, _ = load(split, 5, epochs=4)
    longer.set_state(batches.get_state())
    assert_same(longer, list(load(split, 5, epochs=4)[0])[8:])


@pytest.fixture
def mapped(tmp_path):
    """A split as `open_split` has it: read-only memory maps."""
    split = make_split(23)
    for name, array in split._asdict().items():
        np.save(tmp_path / f"{name}.npy", array)
    return Split(*(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in Split._fields))


def test_memory_mapped_training_batches_are_plain_arrays_with_the_same_content(mapped):
    batches = list(load(mapped, 5)[0])
    assert_same(batches, load(make_split(23), 5)[0])
    for array in itertools.chain(*batches):
        assert type(array) is np.ndarray
        assert not any(np.shares_memory(array, source) for source in mapped)


def test_memory_mapped_evaluation_batches_have_the_same_content(mapped):
    pairs = zip(evaluation_batches(mapped, 5), evaluation_batches(make_split(23), 5), strict=True)
    for (batch, rows), (expected, expected_rows) in pairs:
        assert rows == expected_rows
        for column, values in zip(batch, expected, strict=True):
            assert type(column) is np.ndarray
            np.testing.assert_array_equal(column, values)


@pytest.mark.parametrize(("rows", "batch_size"), [(23, 5), (20, 5), (3, 5), (1, 1)])
def test_evaluation_keeps_the_order_and_fills_the_last_batch_with_padding(rows, batch_size):
    split = make_split(rows)
    batches = list(evaluation_batches(split, batch_size))
    assert len(batches) == -(-rows // batch_size)
    for (ids, labels, weights, dense), count in batches:
        assert ids.shape == (batch_size, SLOTS)
        assert ids.dtype == np.int32
        assert labels.shape == (batch_size,)
        assert not np.asarray(ids)[count:].any()
        assert not np.asarray(weights)[count:].any()
        assert not np.asarray(dense)[count:].any()
    assert [count for _, count in batches[:-1]] == [batch_size] * (len(batches) - 1)
    for column, expected in enumerate(split):
        found = [np.asarray(batch[column])[:count] for batch, count in batches]
        np.testing.assert_array_equal(np.concatenate(found), expected)


MANY = 2**31 + 5  # rows: more than an int32 counts


def test_an_epoch_is_a_permutation_in_the_smallest_memory():
    found = loader.order(1000, seed=3, epoch=2)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.random.default_rng([3, 2]).permutation(1000))


@pytest.fixture
def many(tmp_path):
    """A split of so many rows, in files that are nearly all holes; the last five rows can be told apart."""
    columns = {}
    for name, dtype, shape in (("ids", np.int32, (MANY, 1)), ("labels", np.float32, (MANY,))):
        path = tmp_path / f"{name}.npy"
        columns[name] = np.lib.format.open_memmap(path, "w+", dtype, shape)
        columns[name][-5:] = np.arange(5).reshape(5, *shape[1:])
        columns[name].flush()
        assert path.stat().st_blocks * 512 < 1 << 20
        columns[name] = encoded._map(path, np.dtype(dtype), shape)
    return Split(**columns)


def test_rows_beyond_an_int32_are_gathered_and_passed_over(many, monkeypatch):
    asked = []

    def order(rows, **options):
        asked.append(rows)
        return _Last(rows)

    class _Last:
        """The rows from the last to the first, without their array."""

        def __init__(self, rows):
            self.rows = rows

        def __getitem__(self, which):
            start, stop, _ = which.indices(self.rows)
            return self.rows - 1 - np.arange(start, stop)

    monkeypatch.setattr(loader, "order", order)
    source = ShuffledBatches(many, 2, seed=0, epochs=2)
    assert source.batches_per_epoch == 2**30 + 3
    assert source[0].ids.tolist() == [[4], [3]]
    assert source[1].labels.tolist() == [2, 1]
    assert source[source.batches_per_epoch - 1].ids.tolist() == [[0]]  # row 0: the short last batch
    assert source[source.batches_per_epoch + 2].ids.tolist() == [[0], [0]]
    assert set(asked) == {MANY}
    starts = [start for start, _ in encoded.chunks(many.labels, 2**30)]
    assert starts == [0, 2**30, 2**31]
    *_, (batch, rows) = evaluation_batches(many, 2**20)
    assert rows == 5
    assert np.asarray(batch.labels)[:6].tolist() == [0, 1, 2, 3, 4, 0]
