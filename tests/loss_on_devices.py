"""Run by test_losses.py in a process of its own with 4 virtual devices: the number is fixed when JAX starts.

    XLA_FLAGS=--xla_force_host_platform_device_count=4 python -m tests.loss_on_devices [CASE ...]

Prints, as JSON, by how much every case of CASES differs from one device, or the error that it met.
"""

import doctest
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from ektf_jax import losses

K, B = 4, 24
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(K, B)).astype(np.float32)
LABELS = RNG.binomial(1, 0.4, B).astype(np.float32)
LAM = RNG.uniform(0.5, 2, K).astype(np.float32)
MU = RNG.uniform(0.5, 2, (K, K)).astype(np.float32)

LOSSES: dict[str, Callable[..., Any]] = {
    "ektf": losses.ektf_loss,
    "per_sample": partial(losses.ektf_loss, per_sample=True, stop_gradient=False),
    "kd": partial(losses.kd_ctr_loss, weights=LAM, teacher="mean_prob"),
    "dml": partial(losses.dml_ctr_loss, weights=MU),
}


def loss_and_gradient(loss, logits, labels):
    """((loss, terms), gradient)."""
    return jax.value_and_grad(lambda z: loss(z, labels), has_aux=True)(logits)


def everything(logits, labels):
    """All that losses compute."""
    scores = losses.exam_scores(logits, labels)
    return {name: loss_and_gradient(loss, logits, labels) for name, loss in LOSSES.items()} | {
        "scores": scores,
        "scores_per_sample": losses.exam_scores(logits, labels, per_sample=True),
        "ctr": losses.ctr_loss(logits, labels),
        "ctr_of_mean": losses.ctr_loss(losses.fuse(logits, "mean"), labels),
        "sum": losses.fuse(logits, "sum"),
        "teaching_weights": losses.teaching_weights(scores),
        "peer_weights": losses.peer_weights(scores),
    }


def along(axis):
    """The losses of blocks of rows along a mapped axis."""
    return LOSSES | {"ektf": partial(losses.ektf_loss, axis_name=axis)}


def off(actual, expected):
    """The largest difference of any leaf, relative to the largest value of that leaf."""

    def of_leaf(a, b):
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape, (a.shape, b.shape)
        return float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-12))

    return max(jax.tree.leaves(jax.tree.map(of_leaf, actual, expected)))


def mesh_of(shape, names, *kinds):
    devices = jax.devices()[: int(np.prod(shape))]
    return jax.make_mesh(shape, names, axis_types=kinds or (AxisType.Explicit,) * len(shape), devices=devices)


def place(mesh, logits_spec, labels_spec):
    return (
        jax.device_put(LOGITS, NamedSharding(mesh, logits_spec)),
        jax.device_put(LABELS, NamedSharding(mesh, labels_spec)),
    )


def laid(*layout):
    """jit of arrays with a sharding."""
    with jax.set_mesh(layout[0]):
        return off(jax.jit(everything)(*place(*layout)), ONE_DEVICE)


def without_jit(*layout):
    with jax.set_mesh(layout[0]):
        return off([loss(*place(*layout)) for loss in LOSSES.values()], of_losses(0))


def without_a_context(*layout):
    """As a user has it who never calls `jax.set_mesh`: the arrays alone know of the mesh."""
    logits, labels = place(*layout)
    return max(
        off(jax.jit(everything)(logits, labels), ONE_DEVICE),
        off(losses.ektf_loss(logits, labels), ONE_DEVICE["ektf"][0]),
        off(losses.ektf_loss(logits, LABELS), ONE_DEVICE["ektf"][0]),
        off(losses.ektf_loss(LOGITS, labels, per_sample=True), ONE_DEVICE["per_sample"][0]),
    )


def weights_laid_anyhow(mesh):
    with jax.set_mesh(mesh):
        logits, labels = place(mesh, P("s", "d"), P("d"))
        lam = jax.device_put(LAM, NamedSharding(mesh, P("d")))
        mu = jax.device_put(MU, NamedSharding(mesh, P("d", "s")))
        actual = (
            losses.kd_ctr_loss(logits, labels, weights=lam, teacher="mean_prob"),
            losses.dml_ctr_loss(logits, labels, weights=mu),
        )
    return off(actual, (ONE_DEVICE["kd"][0], ONE_DEVICE["dml"][0]))


def vmapped(mesh, *axes):
    """vmap over batches of logits [N, K, B], themselves split or not, on top of explicit axes."""

    def four(z, y):
        return [jax.vmap(partial(loss_and_gradient, loss, labels=y))(z) for loss in LOSSES.values()]

    z = np.stack([LOGITS, -LOGITS, 2 * LOGITS, LOGITS + 1])
    expected = jax.tree.map(np.asarray, jax.jit(four)(z, LABELS))
    with jax.set_mesh(mesh):
        logits = jax.device_put(z, NamedSharding(mesh, P(*axes)))
        return off(jax.jit(four)(logits, LABELS), expected)


def of_losses(part):
    """Of every loss (loss, terms), or the gradient."""
    return [ONE_DEVICE[name][part] for name in LOSSES]


def blocks(mesh, axis, **options):
    """shard_map over the rows: the mean over devices is one device's, and so is the gradient of that."""

    def block(logits, labels):
        return jax.lax.pmean([loss(logits, labels) for loss in along(axis).values()], axis)

    specs = (P(None, axis), P(axis))
    mapped = jax.shard_map(block, mesh=mesh, in_specs=specs, out_specs=P(), **options)

    def losses_alone(z, y):
        found = mapped(z, y)
        return jnp.stack([loss for loss, _ in found]), found

    both = jax.jit(jax.jacrev(losses_alone, has_aux=True))
    with jax.set_mesh(mesh):
        gradients, found = both(*place(mesh, *specs))
    return off((list(gradients), found), (of_losses(1), of_losses(0)))


def data_parallel(check_vma):
    """By hand: every device's own gradients of shared parameters, averaged."""
    arrays = [RNG.normal(size=shape).astype(np.float32) for shape in ((3, K), (B, 3))] + [LABELS]

    def gradients(w, x, y, of):
        return [jax.grad(lambda w, f=loss: f((x @ w).T, y)[0])(w) for loss in of.values()]

    def inside(w, x, y):
        if check_vma:  # with it, the gradient of what is the same everywhere is already a sum over devices
            w = jax.lax.pcast(w, "x", to="varying")
        return jax.lax.pmean(gradients(w, x, y, along("x")), "x")

    specs = (P(), P("x"), P("x"))
    mapped = jax.shard_map(inside, mesh=LINE, in_specs=specs, out_specs=P(), check_vma=check_vma)
    expected = jax.jit(partial(gradients, of=LOSSES))(*arrays)
    placed = [jax.device_put(a, NamedSharding(LINE, spec)) for a, spec in zip(arrays, specs, strict=True)]
    return off(jax.jit(mapped)(*placed), expected)


def own_block_only():
    """Without a name a device's loss is that of its block alone; a block of students is a smaller K."""
    some: list[Callable] = [losses.ektf_loss, losses.dml_ctr_loss]

    def alone(z, y):
        return [loss(z, y)[0][None] for loss in some]

    mesh, worst = mesh_of((2,), ("x",)), []
    for axis, specs in ((1, (P(None, "x"), P("x"))), (0, (P("x"), P()))):
        halves = np.split(LOGITS, 2, axis=axis)
        labels = np.split(LABELS, 2) if axis else [LABELS, LABELS]
        expected = [jax.jit(alone)(z, y) for z, y in zip(halves, labels, strict=True)]
        mapped = jax.shard_map(alone, mesh=mesh, in_specs=specs, out_specs=P("x"))
        actual = jax.jit(mapped)(*place(mesh, *specs))
        worst.append(off(actual, jax.tree.map(lambda *leaves: np.concatenate(leaves), *expected)))
    return max(worst)


def mapped_by(transform):
    """pmap or vmap over 4 blocks of rows."""

    def block(z, y):
        return jax.lax.pmean([loss(z, y) for loss in along("x").values()], "x")

    mean = transform(block, axis_name="x")(np.stack(np.split(LOGITS, 4, axis=1)), LABELS.reshape(4, -1))
    return off(jax.tree.map(lambda leaf: leaf[0], mean), of_losses(0))


LINE = mesh_of((4,), ("x",))
SQUARE = mesh_of((2, 2), ("s", "d"))
BY_DEFAULT = jax.make_mesh((2, 2), ("s", "d"))  # explicit, in all versions that we support
AUTO = mesh_of((2, 2), ("s", "d"), AxisType.Auto, AxisType.Auto)
MIXED = mesh_of((2, 2), ("s", "d"), AxisType.Auto, AxisType.Explicit)
CASES = {
    "rows": partial(laid, LINE, P(None, "x"), P("x")),
    "students": partial(laid, LINE, P("x"), P()),
    "both": partial(laid, BY_DEFAULT, P("s", "d"), P("d")),
    "rows_over_two_axes": partial(laid, SQUARE, P(None, ("s", "d")), P()),
    "all_by_the_first_axis": partial(laid, LINE, P("x"), P("x")),
    "labels_along_the_students": partial(laid, SQUARE, P("s", "d"), P("s")),
    "only_labels": partial(laid, SQUARE, P(), P("d")),
    "one_axis_of_two_explicit": partial(laid, MIXED, P("s", "d"), P("d")),
    "auto": partial(laid, AUTO, P("s", "d"), P("d")),
    "without_jit": partial(without_jit, SQUARE, P("s", "d"), P("d")),
    "without_a_context": partial(without_a_context, SQUARE, P("s", "d"), P("d")),
    "weights": partial(weights_laid_anyhow, SQUARE),
    "vmap_over_explicit_rows": partial(vmapped, SQUARE, None, "s", "d"),
    "vmap_over_an_explicit_axis": partial(vmapped, SQUARE, "s", None, "d"),
    "vmap_with_a_name": partial(mapped_by, jax.vmap),
    "pmap": partial(mapped_by, jax.pmap),
    "shard_map": partial(blocks, LINE, "x"),
    "shard_map_unchecked": partial(blocks, LINE, "x", check_vma=False),
    "shard_map_over_one_axis_of_two": partial(blocks, SQUARE, "d", axis_names={"d"}),
    "shard_map_gradients": partial(data_parallel, True),
    "shard_map_gradients_unchecked": partial(data_parallel, False),
    "shard_map_own_block_only": own_block_only,
    "docstring": lambda: float(doctest.testmod(losses).failed),
}
ONE_DEVICE = jax.tree.map(np.asarray, jax.jit(everything)(LOGITS, LABELS))


def outcome(case):
    try:
        return case()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    found = {}
    for name in sys.argv[1:] or CASES:
        started = time.perf_counter()
        found[name] = outcome(CASES[name])
        print(name, found[name], f"{time.perf_counter() - started:.1f} s", file=sys.stderr)
    print(json.dumps(found))
