"""A run's working directory: whose it is, what it records of the run, and what the run is held to by that.

config.json has the config as it was given, resolved.json what that left to the code when the run began: the
arguments of its students in full, and which models taught it. dataset.json says which rows it is trained on,
result.json what came of it.
"""

import contextlib
import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ektf_jax import result as result_file
from ektf_jax import transfer
from ektf_jax.config import Config
from ektf_jax.data import synthetic
from ektf_jax.data.schema import Schema
from ektf_jax.errors import InputError
from ektf_jax.files import check_content, read_json, write_json, write_text
from ektf_jax.keys import differences, named
from ektf_jax.result import Result, read_config
from ektf_jax.training import build
from ektf_jax.training.identity import arguments_in_full, identity
from ektf_jax.training.optimizer import falls

_OTHER = "choose another --workdir"


@contextlib.contextmanager
def exclusive(workdir: Path) -> Iterator[None]:
    """Make the working directory and hold it for this process; the lock goes with it, however it ends.

    Raises InputError where another process holds it, or where something that a run keeps there cannot be
    written: better now than when it is trained.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        for name in ("", "tensorboard", "checkpoints/latest", "checkpoints/best"):
            _probe(workdir / name)
    except OSError as error:
        where = error.filename or workdir
        raise InputError(f"{where}: cannot be written ({error.strerror}); {_OTHER}, or make room") from None
    with (workdir / ".lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{workdir}: another process is training here; wait for it or stop it") from None
        yield


def _probe(directory: Path) -> None:
    """Write into a directory, or where it will be made; OSError where that cannot be done."""
    while not directory.exists():
        directory = directory.parent
    if not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory))
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(bytes(4096))


def claim(workdir: Path, config: Config, taught: Mapping[str, str]) -> None:
    """Record the run that a working directory is for, or raise InputError if it is for another one.

    `taught` has a digest of every teacher, by its name in the config.
    """
    check_run(workdir, config, taught, longer=True)
    resolved = workdir / "resolved.json"
    if not resolved.exists():
        write_json(resolved, {"students": students_in_full(config), "teachers": dict(taught)})
    there = _read_if_there(workdir / "config.json", {})
    before = read_config(there, workdir / "config.json").train.max_epochs if there else 0
    if before < config.train.max_epochs and not finished(workdir, config):
        write_json(workdir / "config.json", config.to_dict())


def finished(workdir: Path, config: Config) -> bool:
    """Whether a working directory holds the result of this very run, and not of one with fewer epochs.

    One that stopped early would stop there again, however many epochs it could have.
    """
    if not result_file.exists(workdir):
        return False
    there = Result.read(workdir)
    ended_at = there.config.train.max_epochs
    return ended_at >= config.train.max_epochs or there.document.get("epochs", 0) < ended_at


def check_run(
    workdir: Path,
    config: Config,
    taught: Mapping[str, str] | None = None,
    result: Mapping[str, Any] | None = None,
    *,
    longer: bool = False,
) -> None:
    """Raise InputError, naming keys and both values, where a directory holds another run than the config's.

    `result` is what result.json holds, where that was read already. What counts is the config in full: a
    student whose defaults changed since is another student. If `longer`, a run may get more epochs than it
    had, where its learning rate does not depend on their number.
    """
    resolved = _read_if_there(workdir / "resolved.json", {"students": dict, "teachers": dict})
    asked = identity(config, students=students_in_full(config))
    if given := _read_if_there(workdir / "config.json", {}):
        there = read_config(given, workdir / "config.json")
        _check_config(workdir, _with_epochs(there, config, longer), resolved.get("students"), config, asked)
    if result is None:
        result = _read_if_there(workdir / result_file.NAME, {})
    if "config" in result:
        check_content(workdir / result_file.NAME, result, {"dataset": dict})
        there = read_config(result["config"], workdir / result_file.NAME)
        _check_config(workdir, _with_epochs(there, config, longer), result.get("students"), config, asked)
        if not config.data.path:
            check_generated(workdir / result_file.NAME, result["dataset"].get("source", {}), config)
    for teacher, digest in (taught or {}).items():
        if resolved.get("teachers", {}).get(teacher, digest) != digest:
            raise InputError(
                f"{workdir}: its teacher {teacher} was trained again since, to another model; {_OTHER}"
            )


def check_students(workdir: Path, result: Result) -> None:
    """Raise InputError, naming both values, where a finished run's students have other defaults now."""
    now = identity(result.config, students=students_in_full(result.config))
    _check_config(workdir, result.config, result.students, result.config, now)


def check_data(workdir: Path, schema: Schema, data: Path | str) -> None:
    """Raise InputError where a run was trained on another dataset than this one, which is at `data`."""
    path = workdir / "dataset.json"
    remedy = "prepare the data as it was for this run, or train again in another --workdir"
    if not path.exists() and (result := _read_if_there(workdir / result_file.NAME, {"dataset": dict})):
        _check_description(workdir / result_file.NAME, result["dataset"], schema, f"{data}; {remedy}")
        return
    recorded = read_json(path, {"schema_sha256": str})
    theirs, arrays = recorded["schema_sha256"], recorded.get("arrays", {})  # version 0.1.0 recorded none
    if not isinstance(arrays, dict):
        raise InputError(f"{path}: arrays is {arrays!r}, not an object; {remedy}")
    if theirs not in (schema.description_fingerprint, schema.fingerprint):
        raise InputError(
            f"{path}: schema_sha256 = {theirs!r} is not that of {data}, {schema.description_fingerprint!r};"
            f" {remedy}"
        )
    for name, digest in arrays.items():
        if schema.arrays.get(name, digest) != digest:
            raise InputError(
                f"{path}: {name} = {digest!r} is not the SHA-256 of the rows in {data},"
                f" {schema.arrays[name]!r}; {remedy}"
            )


def claim_data(workdir: Path, schema: Schema, data: Path) -> None:
    """Record the dataset that a run is trained on, or raise InputError if it was another one."""
    if (workdir / "dataset.json").exists():
        check_data(workdir, schema, data)
    else:
        record = {"schema_sha256": schema.description_fingerprint, "arrays": schema.arrays}
        write_json(workdir / "dataset.json", record)


def check_generated(where: Path, source: Mapping[str, Any], config: Config) -> None:
    """Raise InputError where a dataset's source is not the generator with the config's settings."""
    wanted = synthetic.settings(build.make_synthetic_spec(config))
    found = source.get("spec") if isinstance(source, Mapping) else source
    if not isinstance(found, Mapping | None):
        raise InputError(f"{where}: the spec in its source is {found!r}, which it cannot be; restore it")
    if found is None:
        raise InputError(
            f"{where}: is of a prepared dataset, but config.data.path is empty; set it to where that is, or"
            f" {_OTHER}"
        )
    if changed := differences(found, {key: wanted[key] for key in found if key in wanted}):
        raise InputError(
            f"{where}: its data was generated with other settings of config.data.synthetic"
            f" ({'; '.join(changed)}); {_OTHER}"
        )


def drop_lines_after(path: Path, epoch: int) -> None:
    """Cut metrics.jsonl back to the epochs that the checkpoint holds; a kill may have torn its last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            if json.loads(line)["epoch"] <= epoch:
                kept.append(line + "\n")
    write_text(path, "".join(kept))


def method_in_full(config: Config) -> dict[str, Any]:
    """What a config's method is: its options, those that it leaves out too, and whether it needs peers."""
    method = named("config.transfer.name", config.transfer.name, transfer.METHODS)
    return {"options": dict(transfer.options_in_full(config.transfer)), "needs_peers": method.needs_peers}


def students_in_full(config: Config) -> dict[str, dict[str, Any]]:
    """A config's students with all their arguments: those that it leaves out as the code has them now."""
    return {
        label: arguments_in_full(build.student_class(f"config.ensemble.students.{label}", given), given)
        for label, given in config.ensemble.students.items()
    }


def _check_config(
    workdir: Path,
    there: Config,
    students: Mapping[str, Any] | None,
    config: Config,
    asked: Mapping[str, Any],
) -> None:
    """Compare what is recorded with what is asked for; without a record of the students with today's."""
    changed = differences(identity(there, students=students or students_in_full(there)), asked)
    if changed and not differences(identity(there), identity(config)):
        raise InputError(
            f"{workdir}: its students' defaults have changed since the run ({'; '.join(changed)}); use the"
            " code of then, or train again in another --workdir"
        )
    if changed:
        raise InputError(f"{workdir} holds a run of another config ({'; '.join(changed)}); {_OTHER}")


def _with_epochs(there: Config, config: Config, longer: bool) -> Config:
    """What is recorded, with the epochs that it shall have now, where it may get more."""
    more = there.train.max_epochs < config.train.max_epochs and falls(there.train)
    if not (longer and more):
        return there
    return replace(there, train=replace(there.train, max_epochs=config.train.max_epochs))


def _check_description(where: Path, dataset: Mapping[str, Any], schema: Schema, remedy: str) -> None:
    """Compare the dataset as result.json has it, which alone is there in a collection of results."""
    ours = {"name": schema.dataset, "features": schema.num_features}
    ours |= {"rows": schema.splits, "source": schema.source}
    for key, value in ours.items():
        if dataset.get(key, value) != value:
            raise InputError(f"{where}: dataset.{key} = {dataset[key]!r} is not that of {remedy}")


def _read_if_there(path: Path, shape: Mapping[str, Any]) -> dict[str, Any]:
    return read_json(path, shape) if path.exists() else {}
