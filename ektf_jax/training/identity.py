"""What makes two runs the same run: the one answer for going on, for sweeps and for reports. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ektf_jax.errors import InputError

# No part of what a run is: where its data lies (their fingerprint says which they are), on which devices and
# in which order its students are computed, and how often it tells.
_NOT_THE_RUN = ("data.path", "ensemble.stack", "mesh", "train.log_every", "train.checkpoint_every")
# What a config without the key was: the key came later.
_CAME_LATER: dict[str, Any] = {
    "embedding.sharing": "shared",
    "ensemble.products": "float32",
    "transfer.dml.reduction": "sum",
    "transfer.self": 1,
    "transfer.teachers": [],
}
_ABSENT = object()


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config says of what is trained, flat: {"train.patience": 2, ...}, in JSON's types.

    Of the options of transfer methods only those of the method in use count. Whole numbers are one number,
    written 1 or 1.0. Students come in the order of their labels, as a ConfigDict has them; any other order
    is told too, for it is that of the weights. Raises InputError, naming the key, for a value that JSON has
    no text for.
    """
    transfer = config.get("transfer", {})
    unused = {
        key for key, value in transfer.items() if isinstance(value, Mapping) and key != transfer.get("name")
    }
    used = {key: value for key, value in transfer.items() if key not in unused}
    flat = dict(_flat(dict(config) | {"transfer": used}))
    labels = list(config.get("ensemble", {}).get("students", ()))
    if labels != sorted(labels):
        flat["ensemble.students"] = labels
    before = {
        key: value
        for key, value in _CAME_LATER.items()
        if key.count(".") == 1 or key.split(".")[1] == transfer.get("name")
    }
    return before | {
        key: value
        for key, value in flat.items()
        if not any(key == path or key.startswith(f"{path}.") for path in _NOT_THE_RUN)
    }


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What tells two identities apart, "key: old there, new now" for each key; [] for the same run."""
    return [
        f"{key}: {_shown(there, key)} there, {_shown(now, key)} now"
        for key in sorted(there.keys() | now.keys())
        if there.get(key, _ABSENT) != now.get(key, _ABSENT)
    ]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, _plain(value, path)


def _plain(value: Any, path: str) -> Any:
    try:
        read = json.loads(json.dumps(value, allow_nan=False))
    except (ValueError, TypeError):
        raise InputError(
            f"config.{path} = {value!r} has no text in JSON; use finite numbers, text, True, False, lists"
        ) from None
    return _whole(read)


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "absent"
