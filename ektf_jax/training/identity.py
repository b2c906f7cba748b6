"""What makes two runs the same run: the one answer for going on, for sweeps and for reports. Pure."""

import inspect
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ektf_jax.config import Config
from ektf_jax.keys import Decides, deciding, leaves


def identity(
    config: Config,
    *,
    decides: Collection[Decides] = ("recipe", "run"),
    students: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a config says of what is trained, flat: {"train.patience": 2, ...}, in JSON's types.

    A key says itself what it decides (`ektf_jax.config`). Of the options of transfer methods only those of
    the method in use count, with those that the config leaves out. Whole numbers are one, 1 or 1.0. Students
    come in the order of their labels, as a ConfigDict has them; any other order is told too, for it
    is that of the weights. `students` are theirs in full, where those count; `options` those of the method in
    full, by default as the code has them, which imports JAX. Raises InputError, naming the
    key, for a value that JSON has no text for.
    """
    flat = dict(deciding(config, decides))
    if options is None:
        from ektf_jax import transfer

        options = transfer.options_in_full(config.transfer)
    flat |= leaves(options, f"transfer.{config.transfer.name.rpartition(':')[2]}")
    if students is not None:
        flat = {key: value for key, value in flat.items() if not key.startswith("ensemble.students.")}
        flat |= leaves(students, "ensemble.students")
    if (labels := list(config.ensemble.students)) != sorted(labels):
        flat["ensemble.students"] = labels
    return flat


def arguments_in_full(student: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A student's arguments with the defaults of those that are not given, as JSON can hold them."""
    parameters = inspect.signature(student.__init__).parameters.values()
    defaults = {p.name: _recordable(p.default) for p in parameters if p.default is not p.empty}
    return defaults | dict(given)


def _recordable(value: Any) -> Any:
    """A default as it is or, where JSON has no text for it (a function, say), by its name."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError):
        named = value if hasattr(value, "__qualname__") else type(value)
        return f"{named.__module__}.{named.__qualname__}"
    return value
