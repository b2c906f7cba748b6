"""Optimizers and learning rates by the names that optax gives them, and the moving average of weights."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.typing import ArrayLike

from ektf_jax import keys
from ektf_jax.config import TrainConfig
from ektf_jax.errors import InputError, cause, unknown
from ektf_jax.sharding import path_name, vectors_of

# From a learning rate to what is done with it: the state has none, so that it can be another at each step.
Optimizer = Callable[[ArrayLike], optax.GradientTransformation]
# (first step, last step + 1, the plateau's learning rate) -> the learning rate of each step, float32.
Rates = Callable[[int, int, float], np.ndarray]

PLATEAU = "plateau"
_RATE = ("learning_rate", "max_learning_rate")  # what optax calls it
_PEAK = ("peak_value", "value", "init_value")
_LENGTH = ("decay_steps", "transition_steps")


def _functions(module: Any, names: tuple[str, ...]) -> dict[str, Callable[..., Any]]:
    """The functions of a module with an argument of one of these names, but for parts of others."""
    return {
        name: function
        for name, function in vars(module).items()
        if (inspect.isfunction(function) or isinstance(function, partial))
        and not name.startswith(("_", "scale_", "inject_"))
        and any(argument in names for argument in inspect.signature(function).parameters)
    }


OPTIMIZERS = _functions(optax, _RATE)
SCHEDULES = _functions(optax.schedules, _PEAK)


def make_optimizer(clip_norm: float, name: str = "adam", **options: Any) -> Optimizer:
    """Make one of optax's optimizers after clipping by global norm, as a function of the learning rate."""
    function = OPTIMIZERS[name]
    (rate,) = (key for key in inspect.signature(function).parameters if key in _RATE)
    return lambda value: optax.chain(
        optax.clip_by_global_norm(clip_norm), function(**options, **{rate: value})
    )


def read(train: TrainConfig) -> Optimizer:
    """Make the optimizer of a config; InputError where it cannot be made."""
    name, options = _named("optimizer", train.optimizer, OPTIMIZERS, taken=_RATE)
    made = make_optimizer(train.clip_norm, name, **options)

    def tried(rate: jax.Array) -> Any:
        x, chain = {"x": jnp.ones((2, 2))}, optax.with_extra_args_support(made(rate))
        more: Any = {"value": rate, "grad": x, "value_fn": lambda x: jnp.sum(x["x"])}
        return chain.update(x, chain.init(x), x, **more)

    try:
        jax.eval_shape(tried, jnp.float32(1e-3))
    except Exception as error:  # whatever optax makes of its arguments
        raise InputError(f"config.train.optimizer: {cause(error)}") from error
    return made


def rates(train: TrainConfig, steps: int) -> Rates:
    """Make the learning rates of a config, for a run of so many steps at most; InputError where it cannot be.

    A schedule of optax's has `train.learning_rate` as its peak or its first value and, where it wants a
    length that is not given, that of the run. Both it and the plateau's rate rise over the first
    `train.warmup_steps`, linearly, before the schedule begins.
    """
    name, options = _named("schedule", train.schedule, SCHEDULES | {PLATEAU: None}, taken=())
    warmup = train.warmup_steps
    schedule = None
    if name != PLATEAU:
        arguments = inspect.signature(SCHEDULES[name]).parameters
        rate = next(key for key in _PEAK if key in arguments)
        defaults: dict[str, Any] = {rate: train.learning_rate}
        if rate != "init_value" and "init_value" in arguments:
            defaults["init_value"] = 0.0
        for key in _LENGTH:
            if key in arguments:
                defaults[key] = max(1, steps - warmup)
        try:
            schedule = jax.vmap(SCHEDULES[name](**defaults | options))
            schedule(jnp.arange(2))
        except Exception as error:
            raise InputError(f"config.train.schedule: {cause(error)}") from error
    elif options:
        raise unknown(
            "config key", f"config.train.schedule.{next(iter(options))}", ["config.train.schedule.name"]
        )

    def of_steps(start: int, stop: int, plateau: float) -> np.ndarray:
        at = np.arange(start, stop)
        if schedule is None:
            values = np.full(len(at), plateau)
        else:
            values = np.asarray(schedule(jnp.asarray(np.maximum(at - warmup, 0))), np.float64)
        if start < warmup:
            values = values * np.minimum(1.0, (at + 1) / warmup)
        found = values.astype(np.float32)
        if not (np.all(np.isfinite(found)) and np.all(found >= 0)):
            raise InputError("config.train.schedule has a learning rate that is negative or not finite")
        return found

    return of_steps


def falls(train: TrainConfig) -> bool:
    """Whether the learning rate is the plateau's, which falls where there is no progress."""
    return train.schedule["name"] == PLATEAU


def _named(
    key: str, given: Mapping[str, Any], registry: Mapping[str, Any], *, taken: tuple[str, ...]
) -> tuple[str, dict[str, Any]]:
    """The name and the keywords of a group of keys like {"name": "adam", "b1": 0.9}."""
    path = f"config.train.{key}"
    options = {name: _number_keys(value) for name, value in given.items()}
    name = options.pop("name", None)
    function = keys.named(f"{path}.name", name, {**registry}) if ":" not in str(name) else None
    if function is None and name != PLATEAU:
        raise unknown(f"{path}.name", str(name), registry)
    if function is not None:
        valid = set(inspect.signature(function).parameters) - set(taken)
        for option in options:
            if option in taken:
                raise InputError(f"{path}.{option}: set config.train.learning_rate instead")
            if option not in valid:
                raise unknown("config key", f"{path}.{option}", (f"{path}.{v}" for v in valid))
    return str(name), options


def _number_keys(value: Any) -> Any:
    """Steps as keys, {"100": 0.1}: a config's keys are texts."""
    if isinstance(value, Mapping):
        return {int(key) if key.isdigit() else key: _number_keys(inner) for key, inner in value.items()}
    return value


def make_average(weights: Any, decay: float) -> Callable[[Any, Any, ArrayLike], Any]:
    """Make the jitted update of a moving average: (average, weights, number of this update) -> average.

    average <- d * average + (1 - d) * weights, d = min(decay, (1 + n) / (10 + n)) after n updates: early on
    the average forgets its start. What is no floating-point number is taken as it is. Donates the average,
    which lies where `weights` do.
    """

    variables = jax.tree_util.tree_leaves_with_path(weights, is_leaf=lambda x: isinstance(x, nnx.Variable))
    held = {
        f"{path_name(path)}/value"
        for path, variable in variables
        if isinstance(variable, nnx.Variable) and not isinstance(variable, nnx.Param | nnx.BatchStat)
    }

    @partial(jax.jit, donate_argnums=0, out_shardings=jax.tree.map(lambda leaf: leaf.sharding, weights))
    def update(average: Any, weights: Any, updates: jax.Array) -> Any:
        d = jnp.minimum(decay, (1 + updates) / (10 + updates)).astype(jnp.float32)

        def mix(path: tuple[Any, ...], old: jax.Array, new: jax.Array) -> jax.Array:
            if not jnp.issubdtype(new.dtype, jnp.floating):
                return new
            mixed = d * old + (1 - d) * new
            name = path_name(path)
            # Of what is frozen or held fixed the mean of two equal numbers is to be the number.
            still = vectors_of(name) is not None or name in held
            return jnp.where(old == new, new, mixed) if still else mixed

        return jax.tree_util.tree_map_with_path(mix, average, weights)

    return update
