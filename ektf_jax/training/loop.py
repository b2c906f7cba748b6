"""One training run: from a config and a working directory to result.json, resumable at any moment."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from jax.experimental import multihost_utils
from tqdm import tqdm

from ektf_jax import result as result_file
from ektf_jax.config import Config
from ektf_jax.data import encoded, synthetic
from ektf_jax.data.schema import Schema
from ektf_jax.errors import InputError
from ektf_jax.result import Result
from ektf_jax.training import (
    build,
    checkpoint,
    finite,
    residence,
    rundata,
    start,
    stopping,
    teachers,
    together,
)
from ektf_jax.training.evaluate import evaluate_split, prediction_of
from ektf_jax.training.identity import identity
from ektf_jax.training.listeners import Listener, MetricsFile, TensorBoard, Terminal
from ektf_jax.training.record import (
    check_data,
    check_generated,
    claim,
    claim_data,
    exclusive,
    finished,
    method_in_full,
    students_in_full,
)
from ektf_jax.training.residence import Block, MakeRows
from ektf_jax.training.rundata import dataset
from ektf_jax.training.training import Training
from ektf_jax.training.versions import versions as versions_of

if TYPE_CHECKING:
    import orbax.checkpoint as ocp


def train(
    config: Config | Mapping[str, Any], workdir: str | Path, listeners: Sequence[Listener] = ()
) -> dict[str, Any]:
    """Train until early stopping, evaluate the best epoch, write WORKDIR/result.json and return it.

    Started again with the same config the run goes on from its newest checkpoint, to the same bits as if it
    had never been interrupted; a finished run returns its result. `config` is a `Config`, or nested data for
    `Config.from_dict`. `listeners` are told of what happens, after our own.

    Raises:
      InputError: a bad value, a dataset or working directory that cannot be used, a non-finite loss.
    """
    with _prepared(Config.from_dict(config), Path(workdir)) as training:
        if training is None:
            return dict(Result.read(workdir).document)
        life = _life(training, [*_ours(), *listeners])
        (outcome,) = together.lead([(training, life)], lambda asking: training.take(asking[0][1]))
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def train_together(configs: Mapping[Path, Config], width: int = 1) -> dict[Path, Exception]:
    """Train runs with one `together.recipe`, each in its directory to the result that it would have alone.

    Their dataset is read and their step compiled once. `width` runs at most take a step as one, which rounds
    otherwise than one alone. Killed and started again, alone or together, runs go on from their checkpoints.
    Returns what ended runs before their end, an InputError each; the others go on.

    Raises:
      InputError: as `train`, before any is trained.
      Stopped: a signal asks to stop, and all are saved.
    """
    make_rows = together.sharing_rows()
    with contextlib.ExitStack() as stack:
        prepared = [
            stack.enter_context(_prepared(config, workdir, make_rows)) for workdir, config in configs.items()
        ]
        runs = [training for training in prepared if training is not None]
        if not runs:
            return {}
        take = together.Together(runs, width).take
        ends = together.lead([(run, _life(run, _ours(run.workdir.name))) for run in runs], take)
    for end in ends:
        if isinstance(end, stopping.Stopped):
            raise end
    return {run.workdir: end for run, end in zip(runs, ends, strict=True) if isinstance(end, InputError)}


@contextlib.contextmanager
def _prepared(
    config: Config, workdir: Path, make_rows: MakeRows = residence.make
) -> Iterator[Training | None]:
    """A run that may be trained, its directory its own within the block; None for one that is finished."""
    build.check(config)
    identity(config)
    # All that can be wrong is looked for before anything is written.
    opened = None
    if config.data.path:
        opened = rundata.opened(config, Path(config.data.path))
    else:
        spec = build.make_synthetic_spec(config)
        rundata.check_batch_size(config, "the generated data", synthetic.training_rows(spec))
        if (data := rundata.where(config, workdir)).exists():
            check_generated(data, encoded.open_schema(data).source, config)
    mesh = build.make_mesh(config)
    teachers.check(config, workdir, opened[0] if opened else None)
    if not result_file.exists(workdir):
        start.check(config, workdir)
    # Of several processes the first one writes, and the others wait for it where they read that.
    with exclusive(workdir) if _writes() else contextlib.nullcontext():
        if _writes():
            claim(workdir, config, teachers.digests(config, workdir))
        if finished(workdir, config):
            if opened:
                check_data(workdir, opened[0], config.data.path)
            tqdm.write(f"{workdir}: finished; {result_file.NAME} stays as it is")
            yield None
            return
        if _writes():
            dataset(config, workdir)
        multihost_utils.sync_global_devices("dataset")
        schema, splits = opened or rundata.opened(config, dataset(config, workdir))
        if _writes():
            claim_data(workdir, schema, rundata.where(config, workdir))
            rundata.keep(workdir, rundata.where(config, workdir))
        teachers.check(config, workdir, schema)
        training = Training(config, workdir, mesh, schema, splits, make_rows)
        with contextlib.closing(training.rows):
            yield training


def _ours(name: str = "") -> list[Listener]:
    return [Terminal(name), MetricsFile(), TensorBoard()] if _writes() else [Terminal(name)]


def _life(training: Training, listeners: Sequence[Listener]) -> together.Life:
    """A run to its end, the best epoch evaluated; returns the result, which is written.

    Yields each block that it wants to be trained on, and is sent what says whether a signal asks to stop.
    """
    found = versions()
    with contextlib.ExitStack() as stack:
        latest, best = (
            stack.enter_context(checkpoint.open_checkpoints(training.workdir / "checkpoints" / name))
            for name in ("latest", "best")
        )
        training.restore(latest, best)
        for listener in listeners:
            stack.callback(listener.end)
        _tell(listeners, "begin", training)
        while not training.ended:
            terms, asked = yield from _train_epoch(training, listeners, latest)
            valid = training.end_epoch()
            _tell(listeners, "evaluated", training, terms, valid, training.embedding_use())
            training.check_state()
            training.keep(best)
            _save(training, listeners, latest)
            if number := stopping.asked(asked, here=True):
                raise stopping.stopped(training.workdir, training.progress.step, training.epoch, number)
        training.restore_best(best)
    result = _result(training, found)
    if _writes():
        result_file.write(training.workdir, result)
    return result


def _train_epoch(
    run: Training, listeners: Sequence[Listener], latest: "ocp.CheckpointManager"
) -> Generator[Block, Callable[[], int], tuple[dict[str, Any], Callable[[], int]]]:
    """Take the steps that are left of an epoch; returns the terms of the last, and what it was last sent."""
    train, epoch = run.config.train, run.epoch
    run.start_epoch()
    _tell(listeners, "epoch_begins", run)
    terms: dict[str, Any] = {}
    while run.epoch == epoch:
        if run.compiles:
            _tell(listeners, "compiles", run)
        block = run.next_block(_steps_to_tell(run))
        requested = yield block
        for _ in run.count(block):
            _tell(listeners, "stepped", run)
        step, ends = run.progress.step, run.epoch > epoch
        logged = step % train.log_every == 0
        asked = 0 if ends else stopping.asked(requested, here=logged)
        due = step % train.checkpoint_every == 0 and not ends
        if due or asked or ends or logged:
            terms = run.settle()
            _tell(listeners, "logged", run, terms)
        if due or asked:
            run.check_state()
            _save(run, listeners, latest)
        if asked:
            raise stopping.stopped(run.workdir, step, epoch + 1, asked)
    return terms, requested


def _steps_to_tell(run: Training) -> int:
    """How many steps there are to the next that is logged or saved."""
    train = run.config.train
    return min(every - run.progress.step % every for every in (train.log_every, train.checkpoint_every))


def _save(run: Training, listeners: Sequence[Listener], latest: "ocp.CheckpointManager") -> None:
    _tell(listeners, "saves", run)
    run.save(latest)


def _tell(listeners: Sequence[Listener], what: str, *told: Any) -> None:
    for listener in listeners:
        getattr(listener, what)(*told)


def _result(run: Training, found: dict[str, str]) -> dict[str, Any]:
    config, schema, progress = run.config, run.schema, run.progress
    return {
        "format": result_file.FORMAT,
        "config": config.to_dict(),
        "students": students_in_full(config),
        "method": method_in_full(config),
        "params": run.parameters,
        "flops_per_sample": run.flops_per_sample,
        "best_epoch": progress.plateau.best_epoch,
        "epochs": run.epoch,
        "valid": run.evaluate("valid"),
        "test": run.evaluate("test"),
        "embedding_use": run.embedding_use(),
        "train_samples_per_second": run.samples_per_second,
        # The share of training time in which the loop asked for a batch that was not there yet.
        "input_wait": progress.waited / progress.seconds if progress.seconds else 0.0,
        "compile_seconds": progress.compiling,
        "wall_seconds": run.wall_seconds(),
        "seed": config.seed,
        "dataset": about_dataset(schema),
        "device": jax.devices()[0].device_kind,
        "mesh": dict(run.mesh.shape),
        "versions": found,
    }


def evaluate(workdir: Path, split: str, data: Path | None = None) -> dict[str, Any]:
    """AUC and logloss of a finished run's best epoch on a split, as result.json has them.

    `data` is where its dataset is now, if it was moved. Writes nothing. Raises InputError for another dataset
    than the run's, or a best checkpoint that is gone or damaged.
    """
    config = Result.read(workdir).config
    data = rundata.with_rows(config, workdir, data)
    schema, splits = encoded.open_dataset(data, [split])
    check_data(workdir, schema, data)
    rundata.check_classes(data, split, splits[split])
    model = teachers.load(workdir, schema)
    predict, weights = prediction_of(model, config.ensemble.matmul_dtype)
    try:
        return evaluate_split(predict, *weights, splits[split], config.data.batch_size)
    except finite.NotFinite as error:
        raise InputError(
            f"{workdir}: evaluation of {split}: {error}; train again in another --workdir"
        ) from None


def about_dataset(schema: Schema) -> dict[str, Any]:
    """What a result says of its dataset."""
    return {
        "name": schema.dataset,
        "features": schema.num_features,
        "rows": schema.splits,
        "source": schema.source,
        "arrays": schema.arrays,
    }


def versions() -> dict[str, str]:
    """Versions behind a result: Python and the packages that compute it."""
    packages = ("ektf-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    return versions_of(*packages)


def _writes() -> bool:
    """Whether this process writes the run's files; of several, one does."""
    return jax.process_index() == 0
