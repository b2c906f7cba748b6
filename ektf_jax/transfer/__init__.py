"""Knowledge transfer: how a training loss is made from predictions and labels. A file per method."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ektf_jax import keys
from ektf_jax.config import TransferConfig
from ektf_jax.errors import InputError, cause, unknown
from ektf_jax.transfer.dagfm import DAGFM
from ektf_jax.transfer.dml import DML
from ektf_jax.transfer.eckd import ECKD
from ektf_jax.transfer.ektf import EKTF
from ektf_jax.transfer.kd import KD
from ektf_jax.transfer.kdcl import KDCL
from ektf_jax.transfer.method import Method, Teacher, TeacherOutputs
from ektf_jax.transfer.online_kd import OnlineKD
from ektf_jax.transfer.plain import Plain

__all__ = ["METHODS", "Method", "Teacher", "TeacherOutputs", "make", "options_in_full", "read"]

METHODS: dict[str, type[Method]] = {
    "ektf": EKTF,
    "kd": KD,
    "dml": DML,
    "online_kd": OnlineKD,
    "kdcl": KDCL,
    "eckd": ECKD,
    "dagfm": DAGFM,
    "none": Plain,
}


def make(name: str, **options: Any) -> Method:
    """Make a method of ours: (prediction, labels) -> (scalar, Terms), some with `TeacherOutputs` as well."""
    if name not in METHODS:
        raise ValueError(f"transfer method {name!r} is unknown: use one of {', '.join(METHODS)}")
    return METHODS[name](**options)


def read(settings: TransferConfig) -> Method:
    """Make the method of a config, with its options.

    Raises InputError for an unknown method, or an option or a value that it cannot have; those of other
    methods of ours are looked at too.
    """
    method = keys.named("config.transfer.name", settings.name, METHODS)
    group = group_of(settings.name)
    if not (isinstance(method, type) and issubclass(method, Method) and dataclasses.is_dataclass(method)):
        raise InputError(
            f"config.transfer.name = {settings.name!r} is not a dataclass that is a transfer.Method"
        )
    groups: dict[str, type[Method]] = METHODS | {group: method}
    made: dict[str, Method] = {}
    for name, options in ({group: {}} | dict(settings.options)).items():
        if name not in groups:
            ours = {field.name for field in dataclasses.fields(settings)} - {"options"}
            valid = (f"config.transfer.{key}" for key in ours | groups.keys())
            raise unknown("config key", f"config.transfer.{name}", valid)
        try:
            made[name] = keys.read(groups[name], options, f"config.transfer.{name}")
        except (TypeError, ValueError) as error:  # of a class of one's own
            if isinstance(error, InputError):
                raise
            raise InputError(f"config.transfer.{name}: {cause(error)}") from error
    return made[group]


def group_of(name: str) -> str:
    """The group below config.transfer that has a method's options: of one's own the class's name."""
    return name.rpartition(":")[2]


def options_in_full(settings: TransferConfig) -> Mapping[str, Any]:
    """A method's options as a config has them, and those that it leaves out as the code has them now.

    Imports no method of one's own, whose options stay as they are.
    """
    given = settings.options.get(group_of(settings.name), {})
    if settings.name not in METHODS:
        return given
    return keys.to_dict(METHODS[settings.name]()) | dict(given)
