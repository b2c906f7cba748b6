"""Synthetic click data: determinism, planted effects, exact Bayes scores and the encoded directory."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import log_loss, roc_auc_score

from ektf_jax.data import encoded, synthetic
from ektf_jax.data.synthetic import SyntheticSpec
from ektf_jax.errors import InputError

SPEC = SyntheticSpec(rows=20_000, values=(500, 300, 20, 7, 50), max_lens=(1, 1, 1, 4, 1), seed=3)


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def brute_force_auc(logits):
    """The definition of `bayes_auc`, pair by pair."""
    p = sigmoid(logits)
    pairs = np.outer(p, 1 - p)
    np.fill_diagonal(pairs, 0)
    ahead = np.sign(np.subtract.outer(logits, logits))
    return (pairs * (ahead + 1) / 2).sum() / pairs.sum()


def test_shapes_dtypes_and_id_ranges():
    ids, labels, logits = synthetic.generate(SPEC)
    assert (ids.shape, ids.dtype) == ((20_000, 8), np.int32)
    assert (labels.shape, labels.dtype) == ((20_000,), np.float32)
    assert (logits.shape, logits.dtype) == ((20_000,), np.float64)
    assert set(np.unique(labels)) == {0, 1}
    slot = 0
    for field in synthetic.fields(SPEC):
        block = ids[:, slot : slot + field.max_len]
        slot += field.max_len
        used = block[block != 0]
        assert used.min() == field.offset + 1  # the most frequent value
        assert used.max() < field.oov
        filled = (block != 0).sum(axis=1)
        assert set(filled) == set(range(1, field.max_len + 1))
        assert (block[:, :-1] != 0)[block[:, 1:] != 0].all()  # padding only at the end


def test_same_seed_same_bits_other_seed_other_data():
    first, again = synthetic.generate(SPEC), synthetic.generate(SPEC)
    other = synthetic.generate(dataclasses.replace(SPEC, seed=4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_chunks_do_not_show(monkeypatch):
    # Chunks are drawn one after another and share the first one's scale, so rows of a later chunk must be
    # distributed like those of the first, with the same hidden parameters.
    monkeypatch.setattr(synthetic, "CHUNK_ROWS", 8192)
    ids, _, logits = synthetic.generate(SPEC)
    assert not np.array_equal(ids[:8192], ids[8192:16384])
    means = [logits[start : start + 8192].mean() for start in (0, 8192)]
    assert means[0] == pytest.approx(means[1], abs=0.1)
    # Equal rows have equal logits, wherever they are.
    _, first, inverse = np.unique(ids, axis=0, return_index=True, return_inverse=True)
    assert first.size < len(ids)
    np.testing.assert_allclose(logits, logits[first][inverse], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("click_rate", [0.001, 0.03, 0.5, 0.9])
@pytest.mark.parametrize("strength", [0.0, 1.0, 30.0])
def test_click_rate_is_met(click_rate, strength):
    spec = dataclasses.replace(
        SPEC, click_rate=click_rate, first_order=strength, second_order=strength, high_order=strength
    )
    _, labels, logits = synthetic.generate(spec)
    assert sigmoid(logits).mean() == pytest.approx(click_rate, abs=1e-10)
    assert labels.mean() == pytest.approx(click_rate, abs=4 * np.sqrt(click_rate / spec.rows))


@pytest.mark.parametrize("name", ["first_order", "second_order", "preference", "high_order"])
def test_strength_is_the_deviation_of_the_logit(name):
    silent = {"first_order": 0.0, "second_order": 0.0, "preference": 0.0, "high_order": 0.0}
    _, _, logits = synthetic.generate(dataclasses.replace(SPEC, **(silent | {name: 1.7})))
    assert logits.std() == pytest.approx(1.7, rel=1e-4)


def test_effects_have_the_order_they_claim():
    # On all 2**F rows of F fields of two values, a mixed second difference kills first-order effects, a
    # third difference second-order ones; a product of three signs survives it.
    layout = synthetic.fields(SyntheticSpec(rows=20, values=(2, 2, 2), order=3))
    hidden = synthetic._hidden_parameters(layout, 4, np.random.default_rng(0))
    hidden[[field.offset + 1 for field in layout], 1] = -1
    hidden[[field.offset + 2 for field in layout], 1] = 1
    cube = np.stack(
        np.meshgrid(*[[field.offset + 1, field.offset + 2] for field in layout], indexing="ij"), -1
    )
    effects = synthetic._effects(cube.reshape(8, 3).astype(np.int32), layout, hidden, 3).reshape(4, 2, 2, 2)
    second = np.diff(np.diff(effects, axis=1), axis=2)
    third = np.diff(second, axis=3)
    assert np.abs(second[0]).max() < 1e-5
    assert np.abs(second[1]).max() > 0.1
    assert np.abs(third[:3]).max() < 1e-5
    assert np.abs(third[3]).min() == pytest.approx(3 * 8)  # three windows, each a product going -1 to 1
    np.testing.assert_allclose(
        effects[2], effects[2][:, :, :1].repeat(2, axis=2), atol=1e-6
    )  # fields 0 and 1


def test_second_order_is_the_sum_over_pairs():
    layout = synthetic.fields(SPEC)
    hidden = synthetic._hidden_parameters(layout, 3, np.random.default_rng(0))
    ids = synthetic._draw_ids(layout, 1.0, 50, np.random.default_rng(1))
    vectors = synthetic._field_means(ids, layout, hidden)[..., 2:]
    pairs = sum((vectors[:, f] * vectors[:, g]).sum(axis=1) for f in range(5) for g in range(f))
    np.testing.assert_allclose(synthetic._effects(ids, layout, hidden, 3)[1], pairs, rtol=1e-4, atol=1e-4)


def test_multi_valued_field_is_the_mean_of_its_filled_slots():
    layout = synthetic.fields(SyntheticSpec(rows=20, values=(5, 5), max_lens=(1, 3), order=2))
    hidden = synthetic._hidden_parameters(layout, 2, np.random.default_rng(0))
    means = synthetic._field_means(np.array([[1, 8, 9, 0]], np.int32), layout, hidden)
    np.testing.assert_allclose(means[0], [hidden[1], (hidden[8] + hidden[9]) / 2], rtol=1e-6)


@pytest.mark.parametrize("zipf", [0.0, 0.7, 1.0, 1.4])
def test_ids_are_long_tailed(zipf):
    ranks = synthetic._zipf_ranks(np.random.default_rng(0).random(400_000), 1000, zipf)
    assert ranks.min() == 1
    assert ranks.max() <= 1000
    counts = np.bincount(ranks, minlength=1001)
    # From rank 10 on, discretising costs under 1 percent of the power law.
    found = counts[10:20].sum() / counts[100:200].sum()
    wanted = sum(r**-zipf for r in range(10, 20)) / sum(r**-zipf for r in range(100, 200))
    assert found == pytest.approx(wanted, rel=0.05)


def test_ranks_stay_in_range_at_the_end_of_the_interval():
    uniform = np.array([0.0, np.nextafter(1.0, 0.0)])
    for zipf in (0.0, 0.5, 1.0, 3.0):
        for values in (1, 2, 1000, 10**7):
            ranks = synthetic._zipf_ranks(uniform, values, zipf)
            assert ranks[0] == 1
            assert 1 <= ranks[1] <= values


@given(
    hnp.arrays(
        np.float64,
        st.integers(2, 60),
        elements=st.floats(-8, 8) | st.sampled_from([-2.0, 0.0, 0.5]),
    )
)
@settings(deadline=None)
def test_bayes_scores_agree_with_brute_force(logits):
    assert synthetic.bayes_auc(logits) == pytest.approx(brute_force_auc(logits), abs=1e-9)
    p = sigmoid(logits)
    entropy = -np.mean(p * np.log(p) + (1 - p) * np.log(1 - p))
    assert synthetic.bayes_logloss(logits) == pytest.approx(entropy, abs=1e-9)


def test_bayes_scores_agree_with_scikit_learn_on_sampled_labels():
    logits = np.random.default_rng(0).normal(-1, 1.5, 2000).round(1)  # rounded, for ties
    p = sigmoid(logits)
    draws = [np.random.default_rng(seed).random(p.size) < p for seed in range(200)]
    aucs = np.array([roc_auc_score(labels, p) for labels in draws])
    losses = np.array([log_loss(labels, p) for labels in draws])
    standard_error = 1 / np.sqrt(len(draws))
    assert synthetic.bayes_auc(logits) == pytest.approx(aucs.mean(), abs=4 * aucs.std() * standard_error)
    assert synthetic.bayes_logloss(logits) == pytest.approx(
        losses.mean(), abs=4 * losses.std() * standard_error
    )


def test_bayes_scores_of_extreme_logits():
    assert synthetic.bayes_auc(np.zeros(10)) == pytest.approx(0.5)
    assert synthetic.bayes_auc(np.array([-900.0, 900.0])) == 1.0
    assert synthetic.bayes_logloss(np.array([-900.0, 900.0])) == 0.0
    with pytest.raises(ValueError, match="at least 2"):
        synthetic.bayes_auc(np.zeros(1))


def test_no_other_score_beats_the_true_logit():
    _, labels, logits = synthetic.generate(SPEC)
    noise = np.random.default_rng(0).normal(0, 1, logits.size)
    reached = roc_auc_score(labels, logits)
    assert reached == pytest.approx(synthetic.bayes_auc(logits), abs=0.01)
    assert roc_auc_score(labels, logits + noise) < reached - 0.01


def test_prepare_writes_an_encoded_dataset(tmp_path):
    schema = synthetic.prepare(SPEC, tmp_path / "out")
    assert schema == encoded.open_schema(tmp_path / "out")
    assert schema.splits == {"train": 16_000, "valid": 2_000, "test": 2_000}
    assert schema.source["spec"] == dataclasses.asdict(SPEC) | {
        "values": list(SPEC.values),
        "max_lens": list(SPEC.max_lens),
    }
    splits = {name: encoded.open_split(tmp_path / "out", name) for name in schema.splits}
    # The splits are the generated rows, each once: the train rows exactly as drawn.
    ids, labels, _ = synthetic.generate(SPEC)
    order = synthetic._generators(SPEC)[3].permutation(SPEC.rows)
    assert np.array_equal(splits["train"].ids, ids[order[:16_000]])
    assert np.array_equal(splits["test"].labels, labels[order[18_000:]])


def test_values_unseen_in_training_become_oov(tmp_path):
    schema = synthetic.prepare(dataclasses.replace(SPEC, rows=2_000), tmp_path / "out")
    train = encoded.open_split(tmp_path / "out", "train").ids
    test = encoded.open_split(tmp_path / "out", "test").ids
    known = {0, *np.unique(train).tolist()}
    oovs = {field.oov for field in schema.fields}
    assert not known & oovs
    assert set(np.unique(test).tolist()) <= known | oovs
    start, stop = schema.slots[0]
    assert (test[:, start:stop] == schema.fields[0].oov).any()
    start, stop = schema.slots[3]  # multi-valued: padding stayed padding
    assert (test[:, start:stop] == 0).any()


def test_bayes_scores_of_the_test_split(tmp_path):
    schema = synthetic.prepare(SPEC, tmp_path / "out")
    *_, logits = synthetic.generate(SPEC)
    held_out = logits[synthetic._generators(SPEC)[3].permutation(SPEC.rows)[18_000:]]
    assert schema.source["test_bayes_auc"] == pytest.approx(brute_force_auc(held_out), abs=1e-9)
    assert schema.source["test_bayes_logloss"] == synthetic.bayes_logloss(held_out)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 19}, "rows = 19"),
        ({"values": (5,)}, "values"),
        ({"values": (5, 0, 5)}, "values"),
        ({"max_lens": (1, 2)}, "5 entries"),
        ({"max_lens": (1, 1, 1, 0, 1)}, "max_lens"),
        ({"zipf": -0.1}, "zipf"),
        ({"zipf": float("nan")}, "zipf"),
        ({"first_order": -1.0}, "strengths"),
        ({"high_order": float("inf")}, "strengths"),
        ({"order": 6}, "order = 6; it must be 2 to 5"),
        ({"hidden_dim": 0}, "hidden_dim"),
        ({"click_rate": 0.0}, "click_rate"),
        ({"click_rate": 1.0}, "click_rate"),
        ({"seed": -1}, "seed"),
    ],
)
def test_spec_refuses(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(SPEC, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 2e3}, r"rows = 2000\.0; it must be a whole number"),
        ({"order": 2.5}, "order = 2.5"),
        ({"values": (5, 5.5, 5, 5, 5)}, r"values\[1\] = 5.5"),
        ({"max_lens": (1, 1, True, 1, 1)}, r"max_lens\[2\] = True"),
    ],
)
def test_spec_refuses_counts_that_are_not_whole(change, message):
    with pytest.raises(TypeError, match=message):
        dataclasses.replace(SPEC, **change)
