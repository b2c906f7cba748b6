"""Checkpoints: what a killed run needs to go on to the same bits, and the best weights so far."""

import contextlib
import glob
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from logging import LogRecord
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from ektf_jax.errors import InputError, cause
from ektf_jax.files import check_shape
from ektf_jax.sharding import is_table, path_name

if TYPE_CHECKING:  # a sixth of a second, which a plan of runs has not
    import orbax.checkpoint as ocp

Tree = TypeVar("Tree")

# One more than needed: a damaged newest checkpoint costs the steps since the one before, not the run.
_KEEP = 2
_DIGEST = "sha256"  # of the rest of the progress


@contextlib.contextmanager
def open_checkpoints(directory: Path, *, read_only: bool = False) -> "Iterator[ocp.CheckpointManager]":
    """An Orbax manager that keeps the newest checkpoints; each appears whole or not at all."""
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(
        max_to_keep=None if read_only else _KEEP,
        save_interval_steps=0 if read_only else 1,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=not read_only,
        create=not read_only,
        read_only=read_only,
    )
    handlers: dict[str, ocp.CheckpointHandler] = {
        "tree": ocp.StandardCheckpointHandler(),
        "progress": ocp.JsonCheckpointHandler(),
    }
    directory = directory.resolve()
    if not read_only:
        directory.mkdir(parents=True, exist_ok=True)
    with _without_pattern(directory) as path:
        with _unwarned():
            manager = ocp.CheckpointManager(path, options=options, item_handlers=handlers)
        with manager:
            yield manager


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """Without Orbax's warning of each manager that is read-only, as it was asked to be."""

    def asked_for(record: LogRecord) -> bool:
        return "directory is read only" not in record.getMessage()

    logger = logging.get_absl_logger()
    logger.addFilter(asked_for)
    try:
        yield
    finally:
        logger.removeFilter(asked_for)


@contextlib.contextmanager
def _without_pattern(directory: Path) -> Iterator[Path]:
    """The directory by a path that is no pattern: Orbax would look for its files by one, and find none."""
    if not glob.has_magic(str(directory)) or not directory.is_dir():
        yield directory
        return
    if jax.process_count() > 1:  # whose paths must be the same
        raise InputError(f"{directory}: with several processes the path must hold none of *, ? and [")
    with tempfile.TemporaryDirectory(prefix="ektf-") as folder:
        link = Path(folder, "checkpoints")
        link.symlink_to(directory, target_is_directory=True)
        yield link


def save(manager: "ocp.CheckpointManager", step: int, tree: Any, progress: dict[str, Any]) -> None:
    """Save a pytree of arrays and JSON progress as `step`; a step that is already there stays as it is.

    Raises InputError where it cannot be written: on a disk that is full, say.
    """
    import orbax.checkpoint as ocp

    signed = progress | {_DIGEST: _digest(progress)}
    args = ocp.args.Composite(tree=ocp.args.StandardSave(tree), progress=ocp.args.JsonSave(signed))
    try:
        if step not in manager.all_steps():
            manager.save(step, args=args)
        else:  # by a process that was killed, perhaps before it removed what the step supersedes
            for older in sorted(each for each in manager.all_steps() if each < step)[: 1 - _KEEP]:
                manager.delete(older)
    except (OSError, ValueError) as error:  # the storage layer's own are ValueErrors
        raise InputError(
            f"{_real(manager)}: checkpoint {step} cannot be written ({cause(error)}); make room, or take"
            " another --workdir"
        ) from None


def restore(
    manager: "ocp.CheckpointManager",
    like: Tree,
    step: int | None = None,
    *,
    shape: Mapping[str, Any] | None = None,
    delete_damaged: bool = False,
) -> tuple[Tree, dict[str, Any]] | None:
    """The newest checkpoint that can be read (or exactly `step`), as (pytree like `like`, progress).

    Returns None where there is none. `shape` is what the progress must hold, see `files.check_shape`; Orbax
    checks the arrays, a digest beside it the progress. A damaged checkpoint is reported and passed over, and
    deleted if asked, once an older one was read, so that the run can write it again. The arrays come onto
    the devices of `like`, which may be shapes with their sharding, whatever mesh they were saved from: of the
    embedding table and its moments the rows of zeros that fill it up to a multiple of the shards are cut off
    or added.

    Raises:
      InputError: there are checkpoints, and none of them can be read; or a leaf of the checkpoint is not in
        `like`, the other way round, or has another shape or dtype there.
    """
    import orbax.checkpoint as ocp

    steps = sorted(manager.all_steps(), reverse=True) if step is None else [step]
    damaged: list[int] = []
    for candidate in steps:
        try:
            saved = _leaves(manager.item_metadata(candidate)["tree"].tree)
            _check_leaves(_real(manager) / str(candidate), saved, like)
            target = jax.tree_util.tree_map_with_path(partial(_target, saved), like)
            # Strict, but for a table's rows: Orbax cuts and fills whatever it is let.
            fits = all(leaf.shape == saved[name].shape for name, leaf in _leaves(target).items())
            args = ocp.args.Composite(
                tree=ocp.args.StandardRestore(target, strict=fits), progress=ocp.args.JsonRestore()
            )
            restored = manager.restore(candidate, args=args)
            cut = partial(_cut, _real(manager) / str(candidate))
            tree = jax.tree_util.tree_map_with_path(cut, restored["tree"], like)
            progress = _checked(restored["progress"], shape or {})
        except InputError:
            raise
        except Exception as error:  # whatever the storage layer makes of a damaged file
            logging.warning("%s: checkpoint %d cannot be read (%s)", _real(manager), candidate, error)
            damaged.append(candidate)
            last = error
            continue
        for each in damaged if delete_damaged else ():
            manager.delete(each)
        return tree, progress
    if not steps:
        return None
    raise InputError(
        f"{_real(manager)}: no checkpoint can be read (steps {steps}); delete the working directory and"
        f" start the run again"
    ) from last


def _digest(progress: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(progress, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _checked(saved: Any, shape: Mapping[str, Any]) -> dict[str, Any]:
    """The progress of a checkpoint; ValueError where it is not what was saved. Older ones have no digest."""
    check_shape(saved, shape)
    progress = {key: value for key, value in saved.items() if key != _DIGEST}
    if _DIGEST in saved and saved[_DIGEST] != _digest(progress):
        raise ValueError("its progress was changed or damaged after it was written")
    return progress


def _real(manager: "ocp.CheckpointManager") -> Path:
    return Path(manager.directory).resolve()


def _leaves(tree: Any) -> dict[str, Any]:
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def _check_leaves(where: Any, saved: dict[str, Any], like: Any) -> None:
    """Raise InputError for the first leaf that the checkpoint and the model do not have in common."""
    ours = _leaves(like)
    one_table = len({leaf.shape[0] for name, leaf in saved.items() if is_table(name) and leaf.shape}) == 1
    for name in sorted(saved.keys() | ours.keys()):
        there, here = (_described(leaves.get(name)) for leaves in (saved, ours))
        padded = one_table and name in saved and name in ours and _is_padded(name, saved[name], ours[name])
        if there == here or padded:
            continue
        raise InputError(
            f"{where}: {name} is {there} in the checkpoint and {here} in the model that this config makes"
            " now; use the code and the data of the run, or train again in another --workdir"
        )


def _described(leaf: Any) -> str:
    return "not there" if leaf is None else f"{np.dtype(leaf.dtype)} {list(leaf.shape)}"


def _is_padded(name: str, saved: Any, ours: Any) -> bool:
    """Whether a table's rows differ, and perhaps by nothing but their padding.

    What the checkpoint has more is looked at when it is read. What it lacks must be padding of the model's:
    initial rows are zero nowhere else at the end of a table, whose last row is a value's. A model of shapes
    alone has none.
    """
    if not is_table(name) or saved.dtype != ours.dtype or saved.shape[1:] != ours.shape[1:]:
        return False
    if ours.shape[0] <= saved.shape[0]:
        return True
    return isinstance(ours, jax.Array) and not _any_from(ours, saved.shape[0])


def _target(saved: dict[str, Any], path: tuple[Any, ...], leaf: Any) -> Any:
    """What a leaf is restored as: itself or, of a table, with all rows that were saved."""
    import orbax.checkpoint as ocp

    target = ocp.utils.to_shape_dtype_struct(leaf)
    rows = saved[path_name(path)].shape[0] if leaf.ndim else 0
    if not leaf.ndim or rows <= leaf.shape[0]:
        return target
    shards = leaf.shape[0] // leaf.sharding.shard_shape(leaf.shape)[0]
    return jax.ShapeDtypeStruct(
        (-(-rows // shards) * shards, *leaf.shape[1:]), leaf.dtype, sharding=leaf.sharding
    )


def _cut(where: Any, path: tuple[Any, ...], restored: jax.Array, like: jax.Array) -> jax.Array:
    """The rows of a table that the model has; InputError if there is something in the others."""
    if restored.shape == like.shape:
        return restored
    rows = like.shape[0]
    if _any_from(restored, rows):
        raise InputError(
            f"{where}: {path_name(path)} is {_described(restored)} in the checkpoint, with values beyond row"
            f" {rows}, and {_described(like)} in the model that this config makes now; use the code and the"
            " data of the run, or train again in another --workdir"
        )
    return jax.jit(lambda table: table[:rows], out_shardings=like.sharding)(restored)


def _any_from(table: jax.Array, row: int) -> bool:
    """Whether there is anything but zeros from a row on. Works on shards, also of several processes."""
    return bool(
        jax.jit(lambda table: jnp.any((jnp.arange(len(table)) >= row)[:, None] & (table != 0)))(table)
    )
