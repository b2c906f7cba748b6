"""Knowledge transfer methods by name: how a training loss is made from predictions and labels."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from ektf_jax import losses
from ektf_jax.ensemble import Prediction
from ektf_jax.transfer.dagfm import dagfm
from ektf_jax.transfer.eckd import eckd
from ektf_jax.transfer.kdcl import kdcl
from ektf_jax.transfer.online_kd import online_kd

LossFn = Callable[..., tuple[jax.Array, losses.Terms]]


def ektf(prediction: Prediction, labels: jax.Array, **options: Any) -> tuple[jax.Array, losses.Terms]:
    """Eq. 6; options of `losses.ektf_loss`."""
    return losses.ektf_loss(prediction.students, labels, **options)


def kd(prediction: Prediction, labels: jax.Array, **options: Any) -> tuple[jax.Array, losses.Terms]:
    """Eq. 2; options of `losses.kd_ctr_loss`."""
    return losses.kd_ctr_loss(prediction.students, labels, **options)


def dml(prediction: Prediction, labels: jax.Array, **options: Any) -> tuple[jax.Array, losses.Terms]:
    """Eq. 3; options of `losses.dml_ctr_loss`."""
    return losses.dml_ctr_loss(prediction.students, labels, **options)


def none(prediction: Prediction, labels: jax.Array) -> tuple[jax.Array, losses.Terms]:
    """No transfer, the plain ensemble of Section 3.1: cross-entropy of the fused prediction alone."""
    ctr = losses.ctr_loss(prediction.ensemble, labels)
    num_students = prediction.students.shape[0]
    zero, weights = jnp.zeros(()), jnp.zeros(num_students)
    scores = losses.exam_scores(prediction.students, labels)
    return ctr, losses.Terms(ctr, zero, zero, scores, weights, jnp.zeros((num_students,) * 2))


METHODS: dict[str, LossFn] = {
    "ektf": ektf,
    "kd": kd,
    "dml": dml,
    "online_kd": online_kd,
    "kdcl": kdcl,
    "eckd": eckd,
    "dagfm": dagfm,
    "none": none,
}

# Methods that learn from finished runs: their loss takes a `Lesson`, too.
TAUGHT = ("eckd", "dagfm")
# Methods whose loss is that of the fused prediction; all others see the students alone.
OF_THE_FUSED = ("none",)


def make(name: str, **options: Any) -> LossFn:
    """The loss of a method: (prediction, labels) -> (scalar, Terms); of those in TAUGHT, with a `Lesson`."""
    if name not in METHODS:
        raise ValueError(f"transfer method {name!r} is unknown: use one of {', '.join(METHODS)}")
    return partial(METHODS[name], **options)
