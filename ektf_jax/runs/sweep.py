"""Many runs in one directory, shared by any number of workers: what is done, what is left, what failed."""

import contextlib
import dataclasses
import fcntl
import graphlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from ektf_jax import files
from ektf_jax import result as result_file
from ektf_jax.config import Config
from ektf_jax.data import encoded
from ektf_jax.data.schema import Schema
from ektf_jax.errors import InputError, unknown
from ektf_jax.files import read_json, write_json
from ektf_jax.keys import plain
from ektf_jax.summary import flops_per_sample
from ektf_jax.training import build, loop, record, teachers
from ektf_jax.training import together as together_

Runs = Mapping[str, Config]
AUTO = 16  # runs together, the most that benchmarks/together.py has measured


class Planned(NamedTuple):
    """A run of a sweep: "done", "running", "failed", "blocked", "interrupted" or "to do", and its seconds.

    A run is blocked while one of its teachers has failed or is blocked. `seconds` is what a finished run
    took, and for another an estimate from the finished ones, or None.
    """

    name: str
    state: str
    seconds: float | None


def work(
    runs: Runs,
    directory: Path,
    train: Callable[..., str | None],
    *,
    together: int = 1,
    report: Callable[[str], None] = print,
) -> list[str]:
    """Train every run that is not finished, in order, teachers first; returns those that failed here.

    `train(name)` trains DIRECTORY/name in a process of its own, resuming what is there, and returns what
    went wrong, or None; `train(name, other, ...)` trains at most `together` runs that share a
    `training.together.recipe`, and may leave a failure.json for each that fails. A run that another worker is
    at is left to it. A run without a result has failed, however its process ended. That is recorded in its
    failure.json and does not stop the others, but for those that it was to teach; it is tried again by the
    next call.

    Raises InputError where a finished run is not the one that its config asks for.
    """
    check_finished(runs, directory)
    failed: list[str] = []
    left = list(runs)
    passes_in_vain = 0
    while left and passes_in_vain < 2:
        taken = False
        for name in list(left):
            workdir = directory / name
            if name not in left:
                continue
            if result_file.exists(workdir):
                left.remove(name)
                continue
            missing = [
                teacher for teacher in runs[name].sources if not result_file.exists(directory / teacher)
            ]
            if blocking := [teacher for teacher in missing if teacher not in left]:
                left.remove(name)
                report(f"{name}: blocked: {blocking[0]} has no result")
            if missing:
                continue
            with contextlib.ExitStack() as claims:
                if not claims.enter_context(claimed(workdir)) or result_file.exists(workdir):
                    continue
                names = [name, *_companions(runs, directory, name, left, together - 1, claims)]
                taken = True
                for each in names:
                    left.remove(each)
                    files.remove(directory / each / "failure.json")
                    report(f"{each}: {len(runs) - len(left)} of {len(runs)}")
                started = time.time()
                reason = train(*names)
                for each in names:
                    if not result_file.exists(directory / each):
                        failed.append(each)
                        told = _failure(directory / each, reason, time.time() - started)
                        report(f"{each}: failed: {told}")
        passes_in_vain = 0 if taken else passes_in_vain + 1
        if passes_in_vain == 1:
            time.sleep(1)  # others are at what is left, or a look at the plan holds a claim for a moment
    return failed


def train(runs: Runs, directory: Path, *, at_once: int | None = None) -> None:
    """Train one run of a sweep, or several together; records which of these failed, and raises InputError.

    None at once are as many as fit in half of the memory.
    """
    names = list(runs)
    if len(names) == 1:
        loop.train(located(runs, names[0]), directory / names[0])
        return
    most = together_.room(located(runs, names[0])) if at_once is None else at_once
    started = time.time()
    failed: dict[Path, Exception] = {}
    for start in range(0, len(names), most):
        part = {directory / name: located(runs, name) for name in names[start : start + most]}
        # On a CPU a step over a leading axis of runs gains nothing (benchmarks/together.py).
        failed |= loop.train_together(part, 1 if jax.default_backend() == "cpu" else len(part))
    for workdir, error in failed.items():
        _failure(workdir, str(error), time.time() - started)
    if failed:
        raise InputError("; ".join(f"{workdir}: {error}" for workdir, error in failed.items()))


def _companions(
    runs: Runs, directory: Path, name: str, left: Sequence[str], most: int, claims: contextlib.ExitStack
) -> list[str]:
    """Claim runs that can be trained together with one, so many at most."""
    recipe = together_.recipe(runs[name]) if most else None
    found: list[str] = []
    for other in left[left.index(name) + 1 :] if recipe else ():
        if len(found) == most:
            break
        sources = (directory / source for source in runs[other].sources)
        if together_.recipe(runs[other]) != recipe or not all(map(result_file.exists, sources)):
            continue
        mine = claims.enter_context(claimed(directory / other))
        if mine and not result_file.exists(directory / other):
            found.append(other)
    return found


def _failure(workdir: Path, reason: str | None, seconds: float) -> str:
    """Record why a run has no result, if it did not do that itself; returns the reason."""
    if not (workdir / "failure.json").exists():
        told = {"reason": reason or "ended without a result", "seconds": seconds}
        write_json(workdir / "failure.json", told)
    return str(read_json(workdir / "failure.json", {"reason": str})["reason"])


def plan(runs: Runs, directory: Path) -> list[Planned]:
    """State and time of every run, in order. Looks at DIRECTORY and writes nothing.

    Raises InputError where a finished run is not the one that its config asks for.
    """
    check_finished(runs, directory)
    states = {name: _state(directory / name) for name in runs}
    for name in _teachers_first(runs):
        blocked = any(states[teacher] in ("failed", "blocked") for teacher in runs[name].sources)
        if blocked and states[name] != "done":
            states[name] = "blocked"
    taken = {
        name: read_json(directory / name / result_file.NAME, {"wall_seconds": int | float})["wall_seconds"]
        for name, state in states.items()
        if state == "done"
    }
    work = {name: _work(config) for name, config in runs.items()} if 0 < len(taken) < len(runs) else {}
    rates = [seconds / work[name] for name, seconds in taken.items() if work.get(name)]
    rate = float(np.median(rates)) if rates else None

    def seconds(name: str) -> float | None:
        if name in taken or rate is None or not work[name]:
            return taken.get(name)
        return rate * work[name]

    return [Planned(name, state, seconds(name)) for name, state in states.items()]


def located(runs: Runs, name: str) -> Config:
    """The config of a run with the working directories, relative to its own, of those that it learns from."""
    config = runs[name]
    teachers, starts = (
        tuple(other if Path(other).is_absolute() else os.path.relpath(other, name) for other in others)
        for others in (config.transfer.teachers, config.train.init_from)
    )
    return dataclasses.replace(
        config,
        transfer=dataclasses.replace(config.transfer, teachers=teachers),
        train=dataclasses.replace(config.train, init_from=starts),
    )


@contextlib.contextmanager
def claimed(workdir: Path) -> Iterator[bool]:
    """Make a run this worker's own; yields whether it is.

    A claim ends with its process, however it ends, and with the children that it leaves behind.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / ".claim").open("w", encoding="utf-8") as file:
        os.set_inheritable(file.fileno(), True)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _state(workdir: Path) -> str:
    if result_file.exists(workdir):
        return "done"
    if not workdir.exists():
        return "to do"
    with claimed(workdir) as free:
        if not free:
            return "running"
    if (workdir / "failure.json").exists():
        return "failed"
    return "interrupted" if (workdir / "checkpoints").exists() else "to do"


def _work(config: Config) -> float:
    """What a run takes time in proportion to, FLOPs per sample times rows of an epoch; 0 if unknown."""
    try:
        schema = build.open_schema(config)
    except InputError:  # the data is not there yet; training will say so
        return 0.0
    model = nnx.eval_shape(lambda: build.make_model(config, schema, jax.random.key(0)))
    return flops_per_sample(model, schema.num_fields) * schema.splits["train"]


def read(runs: Any) -> Runs:
    """The configs of a sweep; InputError, naming the run, for anything that is wrong with any of them."""
    if not runs or not isinstance(runs, Mapping):
        raise InputError(
            "config.runs is empty; a sweep names its runs there, a group of keys for each; runs of one config"
            " are made by --grid and --seeds"
        )
    runs = plain(runs, "config.runs")
    _check_names(runs)
    made: dict[str, Config] = {}
    tried: set[str] = set()
    for name, config in runs.items():
        try:
            made[name] = Config.from_dict(config)
            build.check(made[name], tried)
        except InputError as error:
            raise InputError(f"run {name}: {error}") from None
    for name, config in made.items():
        for key, others in (
            ("transfer.teachers", config.transfer.teachers),
            ("train.init_from", config.train.init_from),
        ):
            for other in others:
                if other not in made:
                    raise unknown(f"run {name}: config.{key}", other, made)
    _teachers_first(made)
    return made


def _check_names(runs: Iterable[str]) -> None:
    """Raise InputError for a name that is not that of a directory below the sweep's, and of no other run."""
    seen: dict[tuple[str, ...], str] = {}
    for name in runs:
        parts = tuple(name.split("/"))
        bad = any(part in ("", ".", "..") or len(part.encode("utf-8", "replace")) > 255 for part in parts)
        if bad or not name.isprintable():
            raise InputError(
                f"config.runs has a run {name!r}, whose name cannot be that of its directory: give it parts"
                " between slashes, none of them empty, . or .. and none longer than 255 bytes"
            )
        seen[parts] = name
    for parts, name in seen.items():
        for depth in range(1, len(parts)):
            if parts[:depth] in seen:
                raise InputError(
                    f"config.runs: the directory of run {name!r} lies in that of {seen[parts[:depth]]!r};"
                    " rename one of them"
                )


def check_finished(runs: Runs, directory: Path) -> None:
    """Raise InputError for a finished run that is not the one that the sweep's config asks for now.

    It names the run, the key and both values; what counts is said in `ektf_jax.training.identity`.
    """
    for name in runs:
        workdir = directory / name
        result = read_json(workdir / result_file.NAME) if result_file.exists(workdir) else {}
        if "config" in result:
            config = located(runs, name)
            try:
                record.check_run(workdir, config, teachers.digests(config, workdir), result)
            except InputError as error:
                raise InputError(f"run {name}: {error}") from None


def check_data(runs: Runs, directory: Path, *, whole: bool = True) -> None:
    """Raise InputError for a finished run that was trained on another dataset than its config names now.

    One pass over the rows of each such dataset or, if not `whole`, a look at what it says of them.
    """
    schemas: dict[str, Schema] = {}
    for name, config in runs.items():
        data, workdir = config.data.path, directory / name
        if data and Path(data).exists() and result_file.exists(workdir):
            if data not in schemas:
                path = Path(data)
                schemas[data] = encoded.open_dataset(path)[0] if whole else encoded.open_schema(path)
            try:
                record.check_data(workdir, schemas[data], data)
            except InputError as error:
                raise InputError(f"run {name}: {error}") from None


def _teachers_first(runs: Runs) -> list[str]:
    """The names of the runs, each after those of its teachers."""
    taught_by = {name: run.sources for name, run in runs.items()}
    try:
        return list(graphlib.TopologicalSorter(taught_by).static_order())
    except graphlib.CycleError as error:
        circle = " <- ".join(error.args[1])
        raise InputError(
            f"config.transfer.teachers, config.train.init_from: these runs learn from each other: {circle}"
        ) from None
