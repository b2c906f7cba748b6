"""Checkpoints: what a killed run needs to go on to the same bits, and the best weights so far."""

import contextlib
import glob
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp
from absl import logging

from ektf_jax.errors import InputError

Tree = TypeVar("Tree")

# One more than needed: a damaged newest checkpoint costs the steps since the one before, not the run.
_KEEP = 2


@contextlib.contextmanager
def open_checkpoints(directory: Path, *, read_only: bool = False) -> Iterator[ocp.CheckpointManager]:
    """An Orbax manager that keeps the newest checkpoints; each appears whole or not at all."""
    options = ocp.CheckpointManagerOptions(
        max_to_keep=None if read_only else _KEEP,
        save_interval_steps=0 if read_only else 1,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=not read_only,
        create=not read_only,
        read_only=read_only,
    )
    directory = directory.resolve()
    if not read_only:
        directory.mkdir(parents=True, exist_ok=True)
    with (
        _without_pattern(directory) as path,
        ocp.CheckpointManager(path, options=options) as manager,
    ):
        yield manager


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


def save(manager: ocp.CheckpointManager, step: int, tree: Any, progress: dict[str, Any]) -> None:
    """Save a pytree of arrays and JSON progress as `step`; a step that is already there stays as it is."""
    if step not in manager.all_steps():
        args = ocp.args.Composite(tree=ocp.args.StandardSave(tree), progress=ocp.args.JsonSave(progress))
        manager.save(step, args=args)


def restore(
    manager: ocp.CheckpointManager, like: Tree, step: int | None = None, *, delete_damaged: bool = False
) -> tuple[Tree, Any] | None:
    """The newest checkpoint that can be read (or exactly `step`), as (pytree like `like`, progress).

    Returns None where there is none. A damaged checkpoint is reported and passed over, and deleted if asked,
    once an older one was read, so that the run can write it again. The arrays come onto the devices of
    `like`, whatever mesh they were saved from; a table's rows of zeros at its end are cut or filled up.

    Raises:
      InputError: there are checkpoints, and none of them can be read.
    """
    steps = sorted(manager.all_steps(), reverse=True) if step is None else [step]
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    args = ocp.args.Composite(
        tree=ocp.args.StandardRestore(target, strict=False), progress=ocp.args.JsonRestore()
    )
    damaged: list[int] = []
    for candidate in steps:
        try:
            restored = manager.restore(candidate, args=args)
        except Exception as error:  # whatever the storage layer makes of a damaged file
            logging.warning("%s: checkpoint %d cannot be read (%s)", _real(manager), candidate, error)
            damaged.append(candidate)
            cause = error
            continue
        for step in damaged if delete_damaged else ():
            manager.delete(step)
        return restored["tree"], restored["progress"]
    if not steps:
        return None
    raise InputError(
        f"{_real(manager)}: no checkpoint can be read (steps {steps}); delete the working directory and"
        f" start the run again"
    ) from cause


def _real(manager: ocp.CheckpointManager) -> Path:
    return Path(manager.directory).resolve()
