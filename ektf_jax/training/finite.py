"""Nothing that is not finite is a result: it ends a run where it shows."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ektf_jax.errors import InputError
from ektf_jax.sharding import path_name
from ektf_jax.training.step import StepMetrics

# The first of some steps, how many they are, and their metrics: of steps that were one dispatch with a
# leading axis, which may be longer.
Pending = tuple[int, int, StepMetrics]


class NotFinite(ArithmeticError):
    """A term that is nan or infinite; the message says which."""

    def __init__(self, term: str, value: Any):
        super().__init__(f"{term} is {value}")


def check(terms: Mapping[str, Any]) -> None:
    """Raise NotFinite for the first of the values, numbers or arrays of them, that is not finite."""
    for term, value in terms.items():
        array = np.asarray(value)
        if not np.all(finite := np.isfinite(array)):
            index = np.unravel_index(np.argmin(finite), array.shape)
            raise NotFinite(f"{term}[{', '.join(map(str, index))}]" if index else term, array[index])


def check_state(state: Any) -> None:
    """Raise NotFinite for the first leaf of a state with a value that is not. One pass on its devices."""
    for path, finite in jax.tree_util.tree_flatten_with_path(jax.device_get(_finite(state)))[0]:
        if not finite:
            raise NotFinite(path_name(path), "not finite")


@jax.jit
def _finite(state: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), state)


def step_terms(pending: Sequence[Pending]) -> dict[str, Any]:
    """The terms of the newest of these steps, after waiting for it and checking all of them."""
    terms: dict[str, Any] = {}
    for step, metrics in _each(pending):
        terms = {
            "ctr": metrics.terms.ctr,
            "kd": metrics.terms.kd,
            "dml": metrics.terms.dml,
            "own": metrics.own,
            "l2": metrics.l2,
            "loss": metrics.loss,
            "gradient_norm": metrics.gradient_norm,
            "scores": metrics.terms.scores,
            "teaching_weights": metrics.terms.teaching_weights,
            "peer_weights": metrics.terms.peer_weights,
        }
        check({f"step {step}: {name}": value for name, value in terms.items()})
    return {name: np.asarray(value).tolist() for name, value in terms.items()}


def _each(pending: Sequence[Pending]) -> Iterator[tuple[int, StepMetrics]]:
    for first, steps, metrics in jax.device_get(list(pending)):
        if np.ndim(metrics.loss):
            for index in range(steps):
                yield first + index, jax.tree.map(lambda leaf, at=index: leaf[at], metrics)
        else:
            yield first, metrics


@contextlib.contextmanager
def ending(workdir: Path, where: str = "") -> Iterator[None]:
    """What is not finite ends the run, with an error that says what is left of it."""
    try:
        yield
    except NotFinite as error:
        checkpoints = workdir / "checkpoints"
        saved = any(path.name.isdigit() for path in checkpoints.glob("latest/*"))
        left = f"the last good checkpoint stays in {checkpoints}; " if saved else ""
        raise InputError(
            f"{where}{error}; {left}try a lower config.train.learning_rate in a new --workdir"
        ) from None
