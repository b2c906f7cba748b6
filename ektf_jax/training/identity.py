"""What makes two runs the same run: the one answer for going on, for sweeps and for reports. Pure."""

from collections.abc import Collection, Mapping
from typing import Any

from ektf_jax import transfer
from ektf_jax.config import Config
from ektf_jax.keys import Decides, deciding, leaves


def identity(
    config: Config,
    *,
    decides: Collection[Decides] = ("recipe", "run"),
    students: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a config says of what is trained, flat: {"train.patience": 2, ...}, in JSON's types.

    A key says itself what it decides (`ektf_jax.config`). Of the options of transfer methods only those of
    the method in use count, with those that the config leaves out. Whole numbers are one, 1 or 1.0. Students
    come in the order of their labels, as a ConfigDict has them; any other order is told too, for it
    is that of the weights. `students` are theirs in full, where those count. Raises InputError, naming the
    key, for a value that JSON has no text for.
    """
    flat = dict(deciding(config, decides))
    flat |= leaves(
        transfer.options_in_full(config.transfer), f"transfer.{transfer.group_of(config.transfer.name)}"
    )
    if students is not None:
        flat = {key: value for key, value in flat.items() if not key.startswith("ensemble.students.")}
        flat |= leaves(students, "ensemble.students")
    if (labels := list(config.ensemble.students)) != sorted(labels):
        flat["ensemble.students"] = labels
    return flat
