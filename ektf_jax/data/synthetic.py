"""Synthetic click data whose best possible AUC and logloss are known by construction.

Every value of every field carries hidden parameters; a row's true logit is a sum of planted effects of
first order (a bias per value), second order (inner products of hidden vectors, plus a user-item
preference between the first two fields) and high order (products of hidden signs), and its label is one
draw from that logit. Ids are long-tailed, so rare values stay hard to learn, as in real data.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ektf_jax.data import encoded
from ektf_jax.data.schema import SPLITS, Field, Schema, make_fields
from ektf_jax.errors import InputError

CHUNK_ROWS = 1 << 16  # bounds the gathered hidden parameters to tens of MB; part of what a seed means
_MOST, _WIDEST, _STRONGEST = 2**31, 2**16, 1000


@dataclass(frozen=True)
class SyntheticSpec:
    """What to generate. The four strengths are standard deviations, in logits, of each planted effect.

    rows: total over the splits. values: distinct values per field, F entries. max_lens: slots per field, F
    entries, () for one each; a field of max_len n holds 1 to n values in a row, repeats possible.
    zipf: P(rank r) falls as r**-zipf in each field; 0 is uniform. order: fields per product of signs.
    hidden_dim: length of a value's hidden vector. click_rate: mean of the true probabilities.
    Raises InputError, naming the field, for what cannot be generated; TypeError for a count not whole.
    """

    rows: int
    values: tuple[int, ...]
    max_lens: tuple[int, ...] = ()
    zipf: float = 1.0
    first_order: float = 1.0
    second_order: float = 1.0
    preference: float = 0.0
    high_order: float = 0.5
    order: int = 3
    hidden_dim: int = 4
    click_rate: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        whole = {name: getattr(self, name) for name in ("rows", "order", "hidden_dim", "seed")}
        for index, value in enumerate(self.values):
            whole[f"values[{index}]"] = value
        for index, value in enumerate(self.max_lens):
            whole[f"max_lens[{index}]"] = value
        for name, value in whole.items():
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} = {value!r}; it must be a whole number")
        fields = len(self.values)
        strengths = (self.first_order, self.second_order, self.preference, self.high_order)
        rules = {
            "rows": (20 <= self.rows < _MOST, "at least 20, for 2 rows in every split, and below 2^31"),
            "values": (
                fields >= 2 and min(self.values) >= 1 and sum(self.values) + 2 * fields < _MOST,
                "2 fields or more, each of at least 1 value, and below 2^31 in all",
            ),
            "max_lens": (
                len(self.max_lens) in (0, fields)
                and min(self.max_lens, default=1) >= 1
                and sum(self.max_lens) < _WIDEST,
                f"() or {fields} entries of at least 1, one per field in values, and below {_WIDEST} in all",
            ),
            "zipf": (0 <= self.zipf <= _STRONGEST, f"in [0, {_STRONGEST}]"),
            "strengths": (all(0 <= s <= _STRONGEST for s in strengths), f"in [0, {_STRONGEST}]"),
            "order": (2 <= self.order <= fields, f"2 to {fields}, the number of fields"),
            "hidden_dim": (1 <= self.hidden_dim < _WIDEST, f"at least 1 and below {_WIDEST}"),
            "click_rate": (
                1e-9 <= self.click_rate <= 1 - 1e-9,
                "between 0 and 1, both excluded, and not nearer to them than 1e-9",
            ),
            "seed": (self.seed >= 0, "at least 0"),
        }
        for name, (holds, wanted) in rules.items():
            if not holds:
                found = strengths if name == "strengths" else getattr(self, name)
                raise InputError(f"synthetic data: {name} = {found!r}; it must be {wanted}")


def training_rows(spec: SyntheticSpec) -> int:
    """Rows of the training split that `prepare` makes."""
    return spec.rows * 8 // 10


def fields(spec: SyntheticSpec) -> tuple[Field, ...]:
    """The F encoded fields: local 0 is padding, 1 to n the values by falling frequency, n + 1 OOV."""
    lengths = spec.max_lens or (1,) * len(spec.values)
    return make_fields(
        (f"field_{index}", values + 2, length)
        for index, (values, length) in enumerate(zip(spec.values, lengths, strict=True))
    )


def settings(spec: SyntheticSpec) -> dict[str, Any]:
    """The spec as a schema's source has it, and as JSON reads it back: with lists for tuples."""
    return dataclasses.asdict(spec) | {"values": list(spec.values), "max_lens": list(spec.max_lens)}


def generate(
    spec: SyntheticSpec,
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float64]]:
    """Draw fused ids [N, S], labels [N] in {0, 1} and the true logits [N] behind them.

    label ~ Bernoulli(sigmoid(true logit)). The same spec gives the same bits, and a seed keeps its hidden
    parameters when only `rows` changes. Works in chunks of rows: beside the results it needs the hidden
    parameters and a few float64 [N].
    """
    hidden_rng, row_rng, label_rng, _ = _generators(spec)
    layout = fields(spec)
    hidden = _hidden_parameters(layout, spec.hidden_dim, hidden_rng)
    strengths = np.array([spec.first_order, spec.second_order, spec.preference, spec.high_order])
    ids = np.empty((spec.rows, sum(field.max_len for field in layout)), np.int32)
    logits = np.empty(spec.rows)
    centre, scale = np.zeros(4), np.ones(4)
    for start in range(0, spec.rows, CHUNK_ROWS):
        rows = slice(start, min(start + CHUNK_ROWS, spec.rows))
        ids[rows] = _draw_ids(layout, spec.zipf, rows.stop - start, row_rng)
        effects = _effects(ids[rows], layout, hidden, spec.order)
        if start == 0:
            # Rows are i.i.d.: the first chunk's moments make the strengths mean what they say, in one pass.
            centre, deviation = effects.mean(axis=1), effects.std(axis=1)
            scale = np.divide(strengths, deviation, out=np.zeros(4), where=deviation > 1e-6)
        logits[rows] = scale @ (effects - centre[:, None])
    logits += intercept(logits, spec.click_rate)
    labels = (label_rng.random(spec.rows) < _sigmoid(logits)).astype(np.float32)
    return ids, labels, logits


def bayes_auc(true_logits: NDArray[np.floating]) -> float:
    """Expected AUC of the true probability as the score, the most that any model can reach.

    true_logits [N], each p_i its sigmoid. Ratio of the expected number of won pairs to the expected number
    of pairs over all labellings: sum over i != j of p_i (1 - p_j) ([p_i > p_j] + [p_i = p_j] / 2), divided by
    sum over i != j of p_i (1 - p_j). One sort, O(N log N). Raises ValueError for fewer than two rows.
    """
    logits = np.sort(np.asarray(true_logits, np.float64))
    if logits.size < 2:
        raise ValueError(f"true_logits: {logits.size} rows hold no pair; at least 2 are needed")
    click, skip = _sigmoid(logits), _sigmoid(-logits)
    # Tied rows form a group: each wins fully over the groups below and half over its own.
    first = np.concatenate([[0], np.flatnonzero(np.diff(logits)) + 1])
    click_in, skip_in = np.add.reduceat(click, first), np.add.reduceat(skip, first)
    skip_below = np.cumsum(skip_in) - skip_in
    itself = click @ skip  # a row is no pair with itself
    wins = click_in @ (skip_below + skip_in / 2) - itself / 2
    return float(wins / (click.sum() * skip.sum() - itself))


def bayes_logloss(true_logits: NDArray[np.floating]) -> float:
    """Expected logloss, in nats, of the true probability: the mean entropy of the labels. true_logits [N]."""
    logits = np.asarray(true_logits, np.float64)
    softplus_tail = np.log1p(np.exp(-np.abs(logits)))
    # p softplus(-z) + (1 - p) softplus(z), where the likelier class pays only the tail.
    return float(np.mean(softplus_tail + np.abs(logits) * _sigmoid(-np.abs(logits))))


def prepare(spec: SyntheticSpec, out: Path) -> Schema:
    """Generate and write an encoded dataset directory, split 80/10/10 by a random permutation of the rows.

    A value that no training row holds becomes its field's OOV id in valid and test, as with real data. The
    schema's source records the spec and the best AUC and logloss reachable on the test split (computed from
    the true values, so OOV costs a model what it costs in practice).
    """
    ids, labels, logits = generate(spec)
    layout = fields(spec)
    rows = dict(zip(SPLITS, _split(spec, _generators(spec)[3]), strict=True))
    seen = np.zeros(sum(field.vocab_size for field in layout), bool)
    seen[0] = True  # padding stays padding
    seen[ids[rows["train"]]] = True
    oov = np.array([field.oov for field in layout for _ in range(field.max_len)], np.int32)
    splits = {name: (np.where(seen[ids[at]], ids[at], oov), labels[at]) for name, at in rows.items()}
    source = {
        "spec": settings(spec),
        "test_bayes_auc": bayes_auc(logits[rows["test"]]),
        "test_bayes_logloss": bayes_logloss(logits[rows["test"]]),
    }
    schema = Schema("synthetic", layout, {name: at.size for name, at in rows.items()}, source)
    encoded.write(out, schema, splits, vocabulary=None)
    return schema


def _generators(spec: SyntheticSpec) -> list[np.random.Generator]:
    """Independent streams for hidden parameters, rows, labels and split, so that none moves another."""
    return [np.random.default_rng(child) for child in np.random.SeedSequence(spec.seed).spawn(4)]


def _split(spec: SyntheticSpec, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Row numbers of train, valid and test: 80, 10 and 10 percent of a permutation."""
    return np.split(rng.permutation(spec.rows), [training_rows(spec), spec.rows * 9 // 10])


def _hidden_parameters(
    layout: tuple[Field, ...], hidden_dim: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Bias, sign and hidden vector of every fused id, [V, 2 + hidden_dim]; padding (row 0) is all zero."""
    size = sum(field.vocab_size for field in layout)
    hidden = rng.standard_normal((size, 2 + hidden_dim), dtype=np.float32)
    hidden[:, 1] = np.sign(hidden[:, 1])
    hidden[0] = 0
    return hidden


def _draw_ids(
    layout: tuple[Field, ...], zipf: float, rows: int, rng: np.random.Generator
) -> NDArray[np.int32]:
    """Fused ids [rows, S] with long-tailed values; a multi-valued field fills a prefix of its slots."""
    columns = []
    for field in layout:
        local = _zipf_ranks(rng.random((rows, field.max_len)), field.vocab_size - 2, zipf)
        column = local + np.int32(field.offset)
        if field.max_len > 1:
            filled = rng.integers(1, field.max_len, size=(rows, 1), endpoint=True)
            column[np.arange(field.max_len) >= filled] = 0
        columns.append(column)
    return np.concatenate(columns, axis=1)


def _zipf_ranks(uniform: NDArray[np.float64], values: int, exponent: float) -> NDArray[np.int32]:
    """Ranks 1 to `values` from uniform draws, P(r) close to r**-exponent; any shape in, the same out.

    The inverse distribution function of the density x**-exponent on [1, values + 1), floored: no table,
    and a cost that does not grow with the vocabulary.
    """
    power = 1.0 - exponent
    if abs(power) < 1e-9:
        power = 1e-9  # the formula divides by it; the distribution is the limit's to 8 digits
    log_x = np.log1p(uniform * np.expm1(power * np.log(values + 1.0))) / power
    # Rounding can land on values + 1 itself.
    return np.minimum(np.exp(log_x), values).astype(np.int32)


def _effects(
    ids: NDArray[np.int32], layout: tuple[Field, ...], hidden: NDArray[np.float32], order: int
) -> NDArray[np.float64]:
    """First-order, second-order, preference and high-order effect of each row, unscaled, [4, rows]."""
    fields_hidden = _field_means(ids, layout, hidden)
    bias, sign, vectors = fields_hidden[..., 0], fields_hidden[..., 1], fields_hidden[..., 2:]
    first = bias.sum(axis=1)
    # All pairs in O(F): half of (square of the sum less sum of the squares), as in a factorisation machine.
    second = (np.square(vectors.sum(axis=1)).sum(axis=1) - np.square(vectors).sum(axis=(1, 2))) / 2
    preference = (vectors[:, 0] * vectors[:, 1]).sum(axis=1)
    # One product for each window of `order` neighbouring fields, around the circle.
    window = sign.copy()
    for shift in range(1, order):
        window *= np.roll(sign, -shift, axis=1)
    return np.stack([first, second, preference, window.sum(axis=1)]).astype(np.float64)


def _field_means(
    ids: NDArray[np.int32], layout: tuple[Field, ...], hidden: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Hidden parameters of each field, the mean over its filled slots: [rows, S] -> [rows, F, H]."""
    slots = hidden[ids]
    lengths = [field.max_len for field in layout]
    if max(lengths) == 1:
        return slots
    starts = np.cumsum([0, *lengths[:-1]])
    filled = np.add.reduceat((ids != 0).astype(np.float32), starts, axis=1)
    totals: NDArray[np.float32] = np.add.reduceat(slots, starts, axis=1)
    totals /= filled[..., None]
    return totals


def intercept(logits: NDArray[np.float64], click_rate: float) -> float:
    """The shift at which sigmoid(logits + shift) has mean click_rate. Newton's method kept in a bracket."""
    target = np.log(click_rate) - np.log1p(-click_rate)
    low, high = float(target - logits.max()), float(target - logits.min())
    shift = (low + high) / 2
    for _ in range(100):
        probability = _sigmoid(logits + shift)
        excess = float(probability.mean()) - click_rate
        if abs(excess) < 1e-12:
            break
        low, high = (low, shift) if excess > 0 else (shift, high)
        slope = float((probability * (1 - probability)).mean())
        step = excess / slope if slope > 0 else np.inf
        shift = shift - step if low < shift - step < high else (low + high) / 2
    return shift


def _sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-logits)) without overflow."""
    return 0.5 + 0.5 * np.tanh(0.5 * logits)
