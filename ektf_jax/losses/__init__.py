"""The EKTF loss, Eq. 1 to 6 of "Ensemble Learning via Knowledge Transfer for CTR Prediction".

Pure functions of arrays, JAX's or numpy's: student logits [K, B] (floating-point, student axis first) and
labels [B] in {0, 1} (of any real or boolean type). K is the number of students, B the batch size,
p = sigmoid(logits) the predictions of the students. Other shapes, and a mean over no rows, raise ValueError,
other types TypeError; values are not checked, so that everything can be traced.

Rows may have `sample_weights` [B], finite and 0 or more. Every mean over rows is then sum(w x) / sum(w), or 0
where all are 0; equal weights change nothing. None: a plain mean. A logit of a row of weight 0 must be finite
too: 0 times NaN is NaN.

Where the paper and its authors' code differ, the default is what the code does, since the paper's tables
came from it, and an argument selects the paper's wording. This package imports jax and optax only.

Precision. float32 and float64 stay what they are. bfloat16 and float16 are computed in float32, and all
results but gradients are float32: what tells students that nearly agree would not survive 8 or 11 bits.

Transformations. Everything can be differentiated, vmapped and jitted. Under `jax.jit` all keyword arguments
are static but the arrays `weights`, `sample_weights` and `teacher_logits`:

    >>> import jax
    >>> from ektf_jax import losses
    >>> logits = jax.random.normal(jax.random.key(0), (5, 1024))
    >>> labels = jax.random.bernoulli(jax.random.key(1), 0.3, (1024,))
    >>> loss_fn = jax.jit(losses.ektf_loss, static_argnames=("teacher", "per_sample"))
    >>> loss, terms = loss_fn(logits, labels, teacher="mean_prob", per_sample=True)
    >>> print(loss.shape, terms.peer_weights.shape)
    () (5, 5)

Many devices. Logits may be sharded by students, by rows or by both, with axes of any type (auto or explicit);
values are those of one device, and labels follow the rows of the logits. Inside `jax.shard_map` and
`jax.pmap` a device sees only its block of the rows. The mean over devices is what one device computes for the
whole batch, in value and gradient, once the examination scores are means over all of it too: name the axis.

    >>> from jax.sharding import NamedSharding, PartitionSpec as P
    >>> mesh, specs = jax.make_mesh((jax.device_count(),), ("data",)), (P(None, "data"), P("data"))
    >>> def block_loss(logits, labels):
    ...     loss, terms = losses.ektf_loss(logits, labels, axis_name="data")
    ...     return jax.lax.pmean(loss, "data")
    >>> loss_fn = jax.jit(jax.shard_map(block_loss, mesh=mesh, in_specs=specs, out_specs=P()))
    >>> whole, _ = losses.ektf_loss(logits, labels)
    >>> logits, labels = jax.device_put((logits, labels), tuple(NamedSharding(mesh, spec) for spec in specs))
    >>> print(abs(loss_fn(logits, labels) - whole) < 1e-6)
    True

Differentiate that mean, `loss_fn`. A gradient inside of `shard_map` is another matter: there JAX sums the
gradient of parameters that all devices share over the devices by itself. `ektf_loss` and `exam_scores` alone
take `axis_name`: what the other functions make of `sample_weights` is relative to the device's own rows.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from ektf_jax.losses.arrays import Axes, checked, floating, prepared, products, whole
from ektf_jax.losses.arrays import relative_weights as relative_weights
from ektf_jax.losses.arrays import row_mean as row_mean

Teacher = Literal["mean_logit", "mean_prob"]
Fusion = Literal["mean", "sum"]


class Terms(NamedTuple):
    """The parts of a loss, for logging: which part moved, who scored what, who teaches whom.

    Scalars `ctr`, `kd` and `dml` sum to the loss. `scores` [K] are the examination scores (Eq. 4),
    `teaching_weights` [K] lambda and `peer_weights` [K, K] mu (Eq. 5; row k: whom student k learns from),
    as used in the loss (0 where the term is off; batch means where they are per sample).
    """

    ctr: jax.Array
    kd: jax.Array
    dml: jax.Array
    scores: jax.Array
    teaching_weights: jax.Array
    peer_weights: jax.Array


def fuse(logits: ArrayLike, method: Fusion) -> jax.Array:
    """Ensemble logit of the students: their "mean" or "sum" (Eq. 1). [K, B] -> [B].

    "concat" needs the students' hidden states and lives in `ektf_jax.ensemble`.
    """
    logits = floating(logits, "logits")
    if logits.ndim != 2 or not logits.shape[0]:
        raise ValueError(f"expected logits [K, B], K at least 1, got shape {logits.shape}")
    if method not in get_args(Fusion):
        raise ValueError(f'fusion method {method!r} is unknown: use "mean" or "sum"')
    return jnp.mean(logits, axis=0) if method == "mean" else jnp.sum(logits, axis=0)


def ctr_loss(logits: ArrayLike, labels: ArrayLike, *, sample_weights: ArrayLike | None = None) -> jax.Array:
    """Binary cross-entropy from logits (L_CTR in Eq. 2), mean over the batch. [..., B], [B] -> [...]."""
    logits, labels = prepared(logits, labels)
    return _ctr_loss(logits, labels, relative_weights(sample_weights, logits))


def self_transfer(
    logits: ArrayLike, *, sample_weights: ArrayLike | None = None
) -> tuple[jax.Array, jax.Array]:
    """Passes of each student with different dropout, taught by their mean. [P, K, B] -> [K, B], [K].

    With p_ik = sigmoid(logits) of pass i of student k and p_k = 1/P sum_i p_ik, returns the logits of p_k and

        L_k = sum_i mean_b CE(sg(p_k), p_ik),  CE(t, p) = -t log p - (1 - t) log(1 - p), sg a constant.

    QNN-alpha is one student of two passes: `ctr_loss(z, y) + L` of its result z [1, B], L [1]. K students
    that also teach each other are `ektf_loss(z, labels)[0] + mean(L)`: their predictions are p_k there, and
    L is each one's own. It takes O(P K B) beside that.
    """
    logits = floating(logits, "logits")
    if logits.ndim != 3 or not logits.size:
        raise ValueError(f"expected logits [P, K, B], each at least 1, got {logits.shape}")
    # log p_k and log(1 - p_k) up to log P, which their difference does not hold.
    yes, no = (jax.nn.logsumexp(jax.nn.log_sigmoid(z), axis=0) for z in (logits, -logits))
    mean = yes - no
    target = jax.lax.stop_gradient(jax.nn.sigmoid(mean))
    crossed = optax.sigmoid_binary_cross_entropy(logits, jnp.broadcast_to(target, logits.shape))
    return mean, jnp.sum(row_mean(crossed, relative_weights(sample_weights, logits)), axis=0)


def exam_scores(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    per_sample: bool = False,
    axis_name: Axes = None,
    sample_weights: ArrayLike | None = None,
) -> jax.Array:
    """Examination score S_k = 1 - |y - p_k| of every student (Eq. 4): 1 is perfect. [K, B], [B] -> [K].

    The score is the batch mean, one per student, as in the authors' code; `per_sample=True` keeps one per
    sample, as Eq. 4 is written: [K, B]. `axis_name` is as in `ektf_loss`. No students have no scores, [0].
    """
    logits, labels = prepared(logits, labels)
    if logits.ndim != 2:
        raise ValueError(f"expected logits [K, B], got shape {logits.shape}")
    if per_sample:
        return _sample_scores(logits, labels)
    return _batch_scores(logits, labels, relative_weights(sample_weights, logits, axis_name), axis_name)


def teaching_weights(scores: ArrayLike) -> jax.Array:
    """lambda = softmin(scores) (Eq. 5): the teacher attends most to the weakest student. [K] -> [K].

    Of scores per sample, [K, B], weights per sample.
    """
    scores = floating(scores, "scores")
    if scores.ndim not in (1, 2) or not scores.shape[0]:
        raise ValueError(f"expected scores [K] or [K, B], K at least 1, got shape {scores.shape}")
    return jax.nn.softmax(-scores, axis=0)


def peer_weights(scores: ArrayLike) -> jax.Array:
    """mu (Eq. 5): mu[k, l] is the softmax of S_l - S_k over the peers l != k. [K] -> [K, K].

    Every row sums to 1 and the diagonal is 0; a student without peers (K = 1) has the row [0].
    """
    scores = floating(scores, "scores")
    if scores.ndim != 1 or not scores.shape[0]:
        raise ValueError(f"expected scores [K], K at least 1, got shape {scores.shape}")
    num_students = scores.shape[0]  # not len: a symbol in jax.export
    if num_students == 1:
        return jnp.zeros((1, 1), scores.dtype)
    # S_k is the same along row k, so the softmax does not see it.
    others = ~jnp.eye(num_students, dtype=bool)
    return jax.nn.softmax(jnp.broadcast_to(scores, others.shape), axis=1, where=others)


def kd_ctr_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    teacher: Teacher = "mean_logit",
    stop_gradient: bool = True,
    sample_weights: ArrayLike | None = None,
) -> tuple[jax.Array, Terms]:
    """Ensemble trained on the labels, students distilled from it (Eq. 2). [K, B], [B] -> scalar, Terms.

    L = L_CTR(teacher) + sum_k weights_k * MSE(p_teacher, p_k). `weights` is lambda, a scalar or [K], by
    default 1 / K; the paper names no value, and the configs of experiments have 1. `teacher`,
    `stop_gradient` and errors are as in `ektf_loss`.
    """
    logits, labels = checked(logits, labels)
    _check_teacher(teacher)
    num_students, rows = logits.shape[0], relative_weights(sample_weights, logits)
    weights = _or_uniform(weights, 1 / num_students, (num_students,), logits.dtype)
    ctr = _teacher_ctr_loss(logits, labels, teacher, rows)
    kd = jnp.sum(weights * row_mean(_teacher_gap(logits, teacher, stop_gradient) ** 2, rows))
    no_peers = jnp.zeros((num_students,) * 2, logits.dtype)
    scores = _batch_scores(logits, labels, rows)
    return ctr + kd, Terms(ctr, kd, jnp.zeros_like(kd), scores, weights, no_peers)


def dml_ctr_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    stop_gradient: bool = True,
    reduction: Literal["sum", "mean"] = "sum",
    sample_weights: ArrayLike | None = None,
) -> tuple[jax.Array, Terms]:
    """Every student trained on the labels and on its peers (Eq. 3). [K, B], [B] -> scalar, Terms.

    L = sum_k (L_CTR(p_k) + sum_{l != k} weights_kl * MSE(p_l, p_k)). `weights` is mu, a scalar or [K, K]
    (the diagonal does not count), by default 1 / K (the paper's second footnote). Errors are
    as in `ektf_loss`. A penalty on what the students share is K times weaker for each of them beside this sum
    than beside the means of the other losses; `reduction="mean"` takes 1/K of the sum.
    """
    logits, labels = checked(logits, labels)
    if reduction not in ("sum", "mean"):
        raise ValueError(f'reduction {reduction!r} is unknown: use "sum" or "mean"')
    num_students, rows = logits.shape[0], relative_weights(sample_weights, logits)
    weights = _or_uniform(weights, 1 / num_students, (num_students, num_students), logits.dtype)
    weights = weights * (1 - jnp.eye(num_students, dtype=logits.dtype))
    ctr = jnp.sum(_ctr_loss(logits, labels, rows))
    dml = jnp.sum(weights * _pairwise_mse(logits, stop_gradient, rows))
    if reduction == "mean":
        ctr, dml = ctr / num_students, dml / num_students
    no_teacher = jnp.zeros((num_students,), logits.dtype)
    scores = _batch_scores(logits, labels, rows)
    return ctr + dml, Terms(ctr, jnp.zeros_like(dml), dml, scores, no_teacher, weights)


def ektf_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    teacher: Teacher = "mean_logit",
    stop_gradient: bool = True,
    kd: bool = True,
    dml: bool = True,
    examination: bool = True,
    per_sample: bool = False,
    axis_name: Axes = None,
    teacher_logits: ArrayLike | None = None,
    sample_weights: ArrayLike | None = None,
) -> tuple[jax.Array, Terms]:
    """The EKTF loss (Eq. 6). [K, B], [B] -> scalar, Terms. Under `jax.jit` all but the arrays is static.

    L = 1/K sum_k L_CTR(p_k) + sum_k lambda_k MSE(p_teacher, p_k) + 1/K sum_k sum_{l != k} mu_kl MSE(p_l, p_k)

    Args:
      logits: student logits [K, B]. With K = 1 there are no peers and the mutual learning term is 0.
      labels: clicks [B] in {0, 1}.
      teacher: "mean_logit", sigmoid of the mean logit (authors' code), or "mean_prob", the mean of the
        predictions (Eq. 2).
      stop_gradient: whether the teacher and the peers are constant targets (authors' code). The gradient
        always flows through the weights lambda and mu.
      kd: whether the teacher teaches (off: the ablation "only DML").
      dml: whether students learn from each other (off: "only KD").
      examination: whether scores set the weights (off: "w/o EM", lambda = 1/K and mu = 1/(K-1)).
      per_sample: one examination score, and so one lambda and mu, per sample (Eq. 4 and 5 as written)
        rather than per batch (authors' code).
      axis_name: the mapped axes over which `jax.shard_map`, `jax.pmap` or `jax.vmap` split the batch: scores
        are then means over all of it, all else is of the device's own rows, whose weights are relative to the
        mean of all, so that the mean over devices is the whole batch's. Sharded arrays need no name.
      teacher_logits: logits [B] of another teacher, a finished model say, instead of the students' mean. Its
        prediction is a constant, and `teacher` does not count.
      sample_weights: of the rows, [B].

    Raises:
      ValueError: other shapes, no students, no rows, or an unknown teacher.
      TypeError: logits that are not floating-point, labels that are not real.
    """
    logits, labels = checked(logits, labels)
    _check_teacher(teacher)
    given = teacher_logits
    if given is not None:
        given = prepared(logits, floating(given, "teacher_logits"), "teacher_logits")[1]
    num_students = logits.shape[0]
    per_sample = per_sample and examination
    rows = relative_weights(sample_weights, logits, axis_name)
    scores = _sample_scores(logits, labels) if per_sample else _batch_scores(logits, labels, rows, axis_name)
    graded = scores if examination else jnp.zeros_like(scores)
    ctr = jnp.mean(_ctr_loss(logits, labels, rows))
    kd_term = dml_term = jnp.zeros((), logits.dtype)
    lam, mu = jnp.zeros((num_students,), logits.dtype), jnp.zeros((num_students,) * 2, logits.dtype)
    if kd:
        lam = teaching_weights(graded)
        squares = _teacher_gap(logits, teacher, stop_gradient, given) ** 2
        if per_sample:
            kd_term = row_mean(jnp.sum(lam * squares, axis=0), rows)
            lam = row_mean(lam, rows)
        else:
            kd_term = jnp.sum(lam * row_mean(squares, rows))
    if dml and num_students > 1:
        if per_sample:
            dml_term, mu = _per_sample_mutual_learning(logits, graded, stop_gradient, rows)
        else:
            mu = peer_weights(graded)
            dml_term = jnp.sum(mu * _pairwise_mse(logits, stop_gradient, rows)) / num_students
    if per_sample:
        scores = row_mean(scores, rows)
    return ctr + kd_term + dml_term, Terms(ctr, kd_term, dml_term, scores, lam, mu)


def _ctr_loss(logits: jax.Array, labels: jax.Array, rows: jax.Array | None) -> jax.Array:
    return row_mean(optax.sigmoid_binary_cross_entropy(logits, labels), rows)


def _sample_scores(logits: jax.Array, labels: jax.Array) -> jax.Array:
    # p(label) = 1 - |y - p|, without the cancellation of 1 - (1 - p).
    return jax.nn.sigmoid((2 * labels - 1) * logits)


def _batch_scores(
    logits: jax.Array, labels: jax.Array, rows: jax.Array | None, axis_name: Axes = None
) -> jax.Array:
    scores = row_mean(_sample_scores(logits, labels), rows)
    return scores if axis_name is None else jax.lax.pmean(scores, axis_name)


def _check_teacher(teacher: str) -> None:
    if teacher not in get_args(Teacher):
        raise ValueError(f'teacher {teacher!r} is unknown: use "mean_logit" or "mean_prob"')


def _or_uniform(
    weights: ArrayLike | None, uniform: float, shape: tuple[int, ...], dtype: jnp.dtype
) -> jax.Array:
    weights = jnp.asarray(uniform if weights is None else weights, dtype)
    if weights.shape not in ((), shape):
        raise ValueError(f"expected weights that are a scalar or of shape {shape}, got shape {weights.shape}")
    return jnp.broadcast_to(whole(weights), shape)


def _teacher_ctr_loss(
    logits: jax.Array, labels: jax.Array, teacher: Teacher, rows: jax.Array | None
) -> jax.Array:
    if teacher == "mean_logit":
        return _ctr_loss(fuse(logits, "mean"), labels, rows)
    # log of the mean probability of the label, from logits, so that it stays finite where p rounds to 0.
    signed = (2 * labels - 1) * logits
    log_mean = jax.nn.logsumexp(jax.nn.log_sigmoid(signed), axis=0) - jnp.log(logits.shape[0])
    return -row_mean(log_mean, rows)


def _teacher_gap(
    logits: jax.Array, teacher: Teacher, stop_gradient: bool, given: ArrayLike | None = None
) -> jax.Array:
    """p_k - p_teacher, [K, B]; the teacher's logits [B] may be `given`."""
    students = jax.nn.sigmoid(logits)
    if given is not None:
        return students - jax.lax.stop_gradient(jax.nn.sigmoid(given))
    target = jax.nn.sigmoid(fuse(logits, "mean")) if teacher == "mean_logit" else jnp.mean(students, axis=0)
    return students - (jax.lax.stop_gradient(target) if stop_gradient else target)


def _centred(logits: jax.Array, stop_gradient: bool) -> tuple[jax.Array, jax.Array]:
    """Predictions and targets [K, B], both relative to the students' mean.

    Expanding (a - b)^2 cancels badly when a and b nearly agree; what is left of them after their common
    part is gone is as small as their difference.
    """
    p = jax.nn.sigmoid(logits)
    centre = jax.lax.stop_gradient(jnp.mean(p, axis=0))
    return p - centre, (jax.lax.stop_gradient(p) if stop_gradient else p) - centre


def _pairwise_mse(logits: jax.Array, stop_gradient: bool, rows: jax.Array | None) -> jax.Array:
    """MSE(target l, prediction k) as entry [k, l], by one matrix product instead of a [K, K, B] tensor."""
    p, targets = _centred(logits, stop_gradient)
    left, right = (p, targets) if rows is None else (rows * p, rows * targets)
    cross = products(left, targets)
    ours, theirs = (p**2, targets**2) if rows is None else (left * p, right * targets)
    squares = whole(jnp.sum(ours, axis=1))[:, None] + whole(jnp.sum(theirs, axis=1))[None, :]
    return (squares - 2 * cross) / logits.shape[1]


def _per_sample_mutual_learning(
    logits: jax.Array, scores: jax.Array, stop_gradient: bool, rows: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """Third term of Eq. 6 with weights per sample, and their batch mean [K, K], in O(K B + K^2) memory.

    mu_kl = e_l / (sum_i e_i - e_k) with e = exp(S), so both sums over l are moments of the targets that
    all students share. Scores lie in [0, 1]: exp needs no shift and the denominator is at least K - 1.
    """
    p, targets = _centred(logits, stop_gradient)
    e = jnp.exp(scores)
    total = jnp.sum(e, axis=0)
    inverse = 1 / (total - e)
    # The sum runs over all l: student k's distance to itself is 0, in value and in gradient.
    squares = jnp.sum(e * targets**2, axis=0) - 2 * p * jnp.sum(e * targets, axis=0) + p**2 * total
    mu = products(inverse if rows is None else inverse * rows, e) / logits.shape[1]
    mu = mu * (1 - jnp.eye(logits.shape[0], dtype=logits.dtype))
    return jnp.mean(inverse * squares if rows is None else inverse * squares * rows), mu
