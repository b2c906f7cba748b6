"""From a config to the things it names, with errors that say which key to change."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from ektf_jax import sharding, transfer
from ektf_jax.blend import Blend, Predictor
from ektf_jax.config import BlendConfig, Config, MemberConfig
from ektf_jax.data import encoded, synthetic
from ektf_jax.data.schema import Schema
from ektf_jax.data.synthetic import SyntheticSpec
from ektf_jax.ensemble import Ensemble
from ektf_jax.errors import InputError, cause, unknown
from ektf_jax.keys import named, read
from ektf_jax.layers.matmul import use_bfloat16
from ektf_jax.layers.rngs import make_rngs
from ektf_jax.students import REGISTRY
from ektf_jax.training import optimizer

_LARGEST = float(np.finfo(np.float32).max)  # what a step computes in
_MOST = 2**31


def check(config: Config, tried: set[str] | None = None) -> None:
    """Raise InputError for keys that do not go together, and students or a method that cannot be made.

    `tried` is what earlier calls with it have made, which is not made again: the runs of a sweep share it.
    """
    tried = set() if tried is None else tried
    ensemble, mesh, name = config.ensemble, config.mesh, config.transfer.name
    method = transfer.read(config.transfer)
    if ensemble.blend:
        raise InputError(
            "config.ensemble.blend is of an ensemble of finished runs, which is not trained; make one with"
            " `ektf ensemble`"
        )
    if ensemble.fusion == "concat" and config.transfer.self > 1:
        raise InputError(
            f"config.transfer.self = {config.transfer.self!r} teaches students by the mean of their"
            " predictions, which config.ensemble.fusion = 'concat' leaves them without; use 'mean' or 'sum'"
        )
    if ensemble.fusion != "mean" and not method.of_the_fused:
        of_the_fused = [name for name, other in transfer.METHODS.items() if other.of_the_fused]
        why = {
            "concat": "leaves the students without predictions to transfer",
            "sum": f"is never seen by the loss of config.transfer.name = {name!r}",
        }
        raise InputError(
            f"config.ensemble.fusion = {ensemble.fusion!r} {why[ensemble.fusion]}; use it with"
            f" config.transfer.name = {' or '.join(map(repr, of_the_fused))}"
        )
    if mesh.student > 1:
        if ensemble.stack == "scan":
            raise InputError(
                f"config.mesh.student = {mesh.student} splits a stack, which config.ensemble.stack ="
                " 'scan' runs one copy after another; use 'vmap' or 'auto'"
            )
        labels = ensemble.labels
        sizes = {label: labels.count(label) for label in labels}
        if all(size % mesh.student for size in sizes.values()):
            raise InputError(
                f"config.mesh.student = {mesh.student} divides the copies of no student in"
                f" config.ensemble ({', '.join(f'{label}: {size}' for label, size in sizes.items())})"
            )
    count, kinds = ensemble.num_students, list(ensemble.students)
    if count < len(kinds):
        raise InputError(
            f"config.ensemble.num_students = {count} leaves no copy of {', '.join(kinds[count:])}; it must be"
            f" at least {len(kinds)}, the number of config.ensemble.students"
        )
    _check_teachers(config, method)
    if _is_new(tried, config.train):
        optimizer.read(config.train)
        optimizer.rates(config.train, 1000)
    make_students(config, tried)
    try:
        if _is_new(tried, config.transfer, count):
            method.check(count)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"config.transfer.{transfer.group_of(name)}: {cause(error)}") from None


def _is_new(tried: set[str], *settings: Any) -> bool:
    """Whether these settings, of which a representation tells all, are tried for the first time."""
    text = repr(settings)
    new = text not in tried
    tried.add(text)
    return new


def _check_teachers(config: Config, method: transfer.Method) -> None:
    name, teachers = config.transfer.name, config.transfer.teachers
    if not method.most_teachers and teachers:
        taught = [name for name, other in transfer.METHODS.items() if other.most_teachers]
        raise InputError(
            f"config.transfer.teachers = {teachers!r}, but config.transfer.name = {name!r} has no teachers;"
            f" leave it empty, or use one of {', '.join(taught)}"
        )
    if not teachers and method.least_teachers:
        raise InputError(
            f"config.transfer.teachers is empty, but config.transfer.name = {name!r} learns from finished"
            " runs; name their working directories, relative to this run's"
        )
    least, most = method.least_teachers, method.most_teachers
    if not least <= len(teachers) <= most:
        wanted = "one directory" if least == most == 1 else f"{least} to {most} directories"
        raise InputError(f"config.transfer.teachers = {teachers!r} must be {wanted} for {name!r}")
    if method.starts_from_teacher and config.train.init_from:
        raise InputError(
            f"config.train.init_from = {config.train.init_from!r}, but a run of config.transfer.name ="
            f" {name!r} starts from its teacher; leave it empty"
        )
    for axis in (sharding.STUDENT, sharding.TABLE):
        if teachers and getattr(config.mesh, axis) > 1:
            raise InputError(
                f"config.mesh.{axis} = {getattr(config.mesh, axis)}, but a run with teachers can be split"
                " over data only"
            )


def open_schema(config: Config) -> Schema:
    """The schema of config.data: of the prepared dataset, or of the one that a run would generate."""
    if config.data.path:
        return encoded.open_schema(Path(config.data.path))
    spec = make_synthetic_spec(config)
    return Schema("synthetic", synthetic.fields(spec), {"train": synthetic.training_rows(spec)}, {})


def make_synthetic_spec(config: Config) -> SyntheticSpec:
    """The generator's settings in config.data.synthetic."""
    arguments = config.data.synthetic
    if not arguments:
        raise InputError("config.data.path is empty; set it to a directory that `ektf prepare` wrote")
    valid = {field.name for field in dataclasses.fields(SyntheticSpec)}
    for key in arguments:
        if key not in valid:
            path = "config.data.synthetic."
            raise unknown("config key", path + key, {path + name for name in valid})
    try:
        return SyntheticSpec(**arguments)
    except TypeError as error:
        raise InputError(f"config.data.synthetic: {error}") from None


def make_students(
    config: Config, tried: set[str] | None = None
) -> list[tuple[Callable[..., nnx.Module], int]]:
    """Per kind of student in config.ensemble, how to make one and how many: K dealt out in turn.

    `tried` as in `check`.
    """
    tried = set() if tried is None else tried
    sharding.check_devices()
    kinds = config.ensemble.students
    if not kinds:
        raise InputError("config.ensemble.students is empty; name at least one student")
    makes = {
        label: _make_student(f"config.ensemble.students.{label}", arguments, config, tried)
        for label, arguments in kinds.items()
    }
    labels = config.ensemble.labels
    return [(make, labels.count(label)) for label, make in makes.items() if label in labels]


def _make_student(path: str, arguments: Any, config: Config, tried: set[str]) -> Callable[..., nnx.Module]:
    student = student_class(path, arguments)
    options = dict(arguments)
    name = options.pop("name")
    parameters = inspect.signature(student.__init__).parameters.values()
    valid = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - {"rngs"}
    for key in options:
        if key not in valid:
            raise unknown(f"config key of student {name!r}", f"{path}.{key}", {f"{path}.{v}" for v in valid})
    if config.ensemble.fusion == "concat" and not hasattr(student, "hidden"):
        raise InputError(
            f"{path}: student {name!r} has no hidden state for config.ensemble.fusion = 'concat'"
        )
    for parameter in parameters:
        if parameter.name in options:
            _check_option(f"{path}.{parameter.name}", options[parameter.name], parameter.default)
    make: Callable[..., nnx.Module] = partial(student, **options)
    if not _is_new(tried, student, options, config.embedding.dim):
        return make
    try:
        model = nnx.eval_shape(lambda: make(2, config.embedding.dim, rngs=make_rngs(0)))
        if ":" in name:
            _check_output(model, config.embedding.dim)
    except Exception as error:  # the class may be a user's own, and its arguments anything
        raise InputError(f"{path}: {cause(error)}") from error
    return make


def student_class(path: str, arguments: Any) -> type[nnx.Module]:
    """The class of a student's settings, which config key `path` holds; InputError where there is none."""
    if not isinstance(arguments, Mapping) or "name" not in arguments:
        raise InputError(f"{path} must be a group of keys with a name; valid names: {', '.join(REGISTRY)}")
    student = named(f"{path}.name", arguments["name"], REGISTRY)
    if not (isinstance(student, type) and issubclass(student, nnx.Module)):
        raise InputError(f"{path}.name = {arguments['name']!r} is not an nnx.Module")
    return student


def _check_option(path: str, value: Any, default: Any) -> None:
    """Raise InputError for an argument of another type than its default, or one that no layer can have.

    The command line makes text of what it does not know.
    """
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{path} = {value!r} must be True or False")
    elif isinstance(default, int):
        if type(value) is not int or abs(value) >= _MOST:
            raise InputError(f"{path} = {value!r} must be a whole number below 2^31")
    elif isinstance(default, float):
        if type(value) not in (int, float) or not abs(value) <= _LARGEST:
            raise InputError(f"{path} = {value!r} must be a number, and a float32")
    elif isinstance(default, str):
        if not isinstance(value, str):
            raise InputError(f"{path} = {value!r} must be text, like {default!r}")
    elif isinstance(default, tuple) and not isinstance(value, tuple | list):
        raise InputError(f"{path} = {value!r} must be a tuple, like {default!r}")


def _check_output(student: nnx.Module, embedding_dim: int) -> None:
    """Raise ValueError for a student that does not make a logit of each row's embeddings."""
    width = embedding_dim + getattr(student, "own_dim", 0) + getattr(student, "wide_dim", 0)
    graphdef, state = nnx.split(student)
    output = jax.eval_shape(
        lambda state, x: nnx.merge(graphdef, state, copy=True)(x), state, jnp.zeros((3, 2, width))
    )
    if getattr(output, "shape", None) != (3,):
        raise ValueError("it must map embeddings [B, F, D] to logits [B] in evaluation; docs/students.md")


def make_model(config: Config, schema: Schema, key: jax.Array, *, mesh: Mesh | None = None) -> Ensemble:
    """The ensemble of a checked config, initialised from `key`; on a mesh, one that it can split."""
    ensemble = config.ensemble
    shape = mesh.shape if mesh is not None else {sharding.STUDENT: 1, sharding.TABLE: 1}
    # A scan runs the copies in turn, each over all devices.
    stack = "vmap" if shape[sharding.STUDENT] > 1 else ensemble.stack
    if ensemble.matmul_dtype == "bfloat16" and stack == "vmap" and jax.default_backend() == "cpu":
        raise InputError(
            "config.ensemble.matmul_dtype = 'bfloat16': XLA has no batched bfloat16 products on a CPU,"
            " which a vmapped stack needs; use config.ensemble.stack = 'scan' and config.mesh.student = 1"
        )
    try:
        model = Ensemble(
            schema.fields,
            make_students(config),
            embedding_dim=config.embedding.dim,
            own_columns=config.embedding.own_columns,
            passes=config.transfer.self,
            members=ensemble.members,  # type: ignore[arg-type]  # one of MEMBERS
            fusion=ensemble.fusion,  # type: ignore[arg-type]  # one of FUSIONS
            stack=stack,
            table_shards=shape[sharding.TABLE],
            key=key,
        )
    except InputError:
        raise
    # A student that this number of fields does not suit, or shapes that no array can have.
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"config.ensemble.students: {cause(error)}") from error
    if ensemble.matmul_dtype == "bfloat16":
        use_bfloat16(model)
    return model


def make_predictor(config: Config, schema: Schema, key: jax.Array) -> Predictor:
    """The model of a run's config, initialised from `key`: an ensemble, or of an ensemble of runs its blend.

    Raises InputError as `make_model` does, and for a blend that cannot be.
    """
    if not config.ensemble.blend:
        return make_model(config, schema, key)
    path = "config.ensemble.blend"
    blend = read(BlendConfig, config.ensemble.blend, path)
    members = []
    for index, told in enumerate(blend.members):
        member = read(MemberConfig, told, f"{path}.members[{index}]")
        its = Config.from_dict({"embedding": member.embedding, "ensemble": member.ensemble})
        try:
            members.append(make_predictor(its, schema, key).subset(member.students))
        except (ValueError, IndexError, TypeError) as error:
            raise InputError(f"{path}.members[{index}]: {error}") from None
    try:
        return Blend(members, blend.weights, of=blend.of)  # type: ignore[arg-type]  # one of BLENDS
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from None


def make_mesh(config: Config) -> Mesh:
    """The mesh of config.mesh over this job's devices."""
    try:
        return sharding.make_mesh(**dataclasses.asdict(config.mesh))
    except ValueError as error:
        raise InputError(f"config.mesh: {error}") from None
