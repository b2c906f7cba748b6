"""One training run: from a config and a working directory to result.json, resumable at any moment."""

import contextlib
import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from tqdm import tqdm

from ektf_jax import sharding, transfer
from ektf_jax.config import Config
from ektf_jax.data import encoded, loader, synthetic
from ektf_jax.data.schema import Schema
from ektf_jax.ensemble import count_parameters
from ektf_jax.errors import InputError
from ektf_jax.files import write_json
from ektf_jax.training import build, checkpoint, compiler, finite, rundata, schedule, stopping, teachers
from ektf_jax.training import optimizer as optimizers
from ektf_jax.training.board import Board
from ektf_jax.training.evaluate import embedding_use, evaluate_split
from ektf_jax.training.identity import identity
from ektf_jax.training.record import (
    check_data,
    check_generated,
    claim,
    claim_data,
    drop_lines_after,
    exclusive,
    finished,
    read_result,
    recorded,
    students_in_full,
)
from ektf_jax.training.rundata import dataset
from ektf_jax.training.step import (
    StepMetrics,
    from_saved_form,
    init_state,
    init_state_on,
    make_predict,
    make_train_step,
    saved_form,
)
from ektf_jax.training.versions import versions as versions_of


def train(config: Config | Mapping[str, Any], workdir: Path) -> dict[str, Any]:
    """Train until early stopping, evaluate the best epoch, write WORKDIR/result.json and return it.

    Started again with the same config the run goes on from its newest checkpoint, to the same bits as if it
    had never been interrupted; a finished run returns its result. `config` is a `Config`, or nested data for
    `Config.from_dict`.

    Raises:
      InputError: a bad value, a dataset or working directory that cannot be used, a non-finite loss.
    """
    config = Config.from_dict(config)
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
    # Of several processes the first one writes, and the others wait for it where they read that.
    with exclusive(workdir) if _writes() else contextlib.nullcontext():
        if _writes():
            claim(workdir, config, teachers.digests(config, workdir))
        result_file = workdir / "result.json"
        if finished(workdir, config):
            if opened:
                check_data(workdir, opened[0], config.data.path)
            tqdm.write(f"{workdir}: finished; result.json stays as it is")
            return read_result(workdir)
        if _writes():
            dataset(config, workdir)
        multihost_utils.sync_global_devices("dataset")
        schema, splits = opened or rundata.opened(config, dataset(config, workdir))
        if _writes():
            claim_data(workdir, schema, rundata.where(config, workdir))
        teachers.check(config, workdir, schema)
        result = _run(config, workdir, mesh, schema, splits)
        if _writes():
            write_json(result_file, result)
        return result


def _run(
    config: Config, workdir: Path, mesh: Mesh, schema: Schema, splits: dict[str, encoded.Split]
) -> dict[str, Any]:
    settings, batch_size, seed = config.train, config.data.batch_size, config.seed
    found = versions()
    method = transfer.read(config.transfer)
    model_key, dropout_key = jax.random.split(jax.random.key(seed))
    make_model = partial(build.make_model, config, schema, model_key)
    count = count_parameters(nnx.eval_shape(make_model))
    optimizer = optimizers.read(settings)
    teach = None
    if config.transfer.teachers:
        model, teach = teachers.make_model(config, workdir, schema, model_key, mesh)
        graphdef, state = init_state(model, optimizer, dropout_key)
        state = jax.device_put(state, sharding.state_shardings(state, mesh))
    else:
        graphdef, state = init_state_on(mesh, partial(make_model, mesh=mesh), optimizer, dropout_key)
    compiler_options = compiler.options(config.ensemble.products)
    train_step = make_train_step(
        graphdef,
        optimizer,
        method,
        l2=config.embedding.l2,
        mesh=mesh,
        compiler_options=compiler_options,
    )
    predict = make_predict(graphdef, mesh=mesh, compiler_options=compiler_options)
    batches, steps_per_epoch = loader.training_batches(
        splits["train"],
        batch_size,
        seed=seed,
        epochs=settings.max_epochs,
        gather=sharding.make_gather(mesh),
    )
    train_rows = len(splits["train"].labels)
    rates = optimizers.rates(settings, steps_per_epoch * settings.max_epochs)
    average = update_average = None
    if settings.ema:
        weights = state.parameters, state.statistics
        update_average = optimizers.make_average(weights, settings.ema)
        average = jax.tree.map(jnp.copy, weights)
    plateau = schedule.Plateau(settings.learning_rate)
    step, seconds, waited, earlier = 0, 0.0, 0.0, 0.0
    began = time.perf_counter()

    def evaluated() -> tuple[nnx.State, nnx.State]:
        """The weights that a run is evaluated by and keeps: their average, where there is one."""
        return (state.parameters, state.statistics) if average is None else average

    def saved_tree() -> Any:
        return saved_form(state) if average is None else (saved_form(state), average)

    def evaluate_on(split: str) -> dict[str, Any]:
        with finite.ending(workdir, f"evaluation of {split} at step {step}: "):
            return evaluate_split(predict, *evaluated(), splits[split], batch_size)

    def use_of_embeddings() -> dict[str, Any]:
        ensemble = method.ensemble(nnx.merge(graphdef, *evaluated()))
        table = sharding.gathered(ensemble.embedding.table[...])
        return embedding_use(table, ensemble.read_columns(), schema)

    def monitored(valid: dict[str, Any]) -> float:
        """What has to rise: the AUC, or less of what the method monitors."""
        if method.monitors is None or teach is None:
            return valid["ensemble"]["auc"]
        told = teachers.monitored(method, predict, teach, *evaluated(), splits["valid"], batch_size)
        valid[method.monitors] = told
        with finite.ending(workdir, f"evaluation of valid at step {step}: "):
            finite.check({method.monitors: told})
        return -told

    def check_state() -> None:
        with finite.ending(workdir, f"after step {step}: "):
            finite.check_state(saved_tree())

    def save(board: Board) -> None:
        board.flush()
        wall = earlier + time.perf_counter() - began
        progress = {
            "plateau": schedule.to_json(plateau),
            "batches": batches.get_state(),
            "seconds": seconds,
            "waited_seconds": waited,
            "wall_seconds": wall,
        }
        checkpoint.save(latest, step, saved_tree(), progress)

    with (
        checkpoint.open_checkpoints(workdir / "checkpoints" / "latest") as latest,
        checkpoint.open_checkpoints(workdir / "checkpoints" / "best") as best,
    ):
        if (restored := checkpoint.restore(latest, saved_tree(), delete_damaged=True)) is not None:
            saved, progress = restored
            saved, average = (saved, None) if average is None else saved
            state = from_saved_form(saved, state)
            step = int(state.step)
            seconds, waited = progress["seconds"], progress["waited_seconds"]
            earlier = progress["wall_seconds"]
            plateau = schedule.from_json(progress["plateau"])
            batches.set_state(progress["batches"])
            tqdm.write(f"{workdir}: going on after step {step}")
            _check_best(best, plateau.best_epoch * steps_per_epoch)
        epoch = step // steps_per_epoch
        if _writes():
            drop_lines_after(workdir / "metrics.jsonl", epoch)

        with (
            contextlib.closing(Board(workdir / "tensorboard" if _writes() else None, step + 1)) as board,
            stopping.requests() as requested,
        ):
            while epoch < settings.max_epochs and not plateau.stopped:
                first = epoch * steps_per_epoch
                of_epoch = rates(first, first + steps_per_epoch, plateau.learning_rate)
                pending: list[tuple[int, StepMetrics]] = []
                with _bar(epoch + 1, steps_per_epoch, step % steps_per_epoch) as bar:
                    started = time.perf_counter()
                    while step < (epoch + 1) * steps_per_epoch:
                        wanted = time.perf_counter()
                        ids, labels = next(batches)
                        waited += time.perf_counter() - wanted
                        lesson = () if teach is None else (teach(ids),)
                        learning_rate = of_epoch[step - first]
                        state, metrics = train_step(state, ids, labels, learning_rate, *lesson)
                        step += 1
                        if update_average is not None:
                            weights = state.parameters, state.statistics
                            average = update_average(average, weights, np.int32(step))
                        pending.append((step, metrics))
                        end_of_epoch = step == (epoch + 1) * steps_per_epoch
                        logged = step % settings.log_every == 0
                        asked = 0 if end_of_epoch else stopping.asked(requested, here=logged)
                        due = step % settings.checkpoint_every == 0 and not end_of_epoch
                        if due or asked or end_of_epoch or logged:
                            with finite.ending(workdir):
                                latest_terms = finite.step_terms(pending)
                            bar.update(len(pending))
                            pending.clear()
                            seconds += time.perf_counter() - started
                            started = time.perf_counter()
                            _log(bar, board, step, latest_terms, batch_size)
                            if due or asked:
                                check_state()
                                save(board)
                                started = time.perf_counter()
                            if asked:
                                raise stopping.stopped(workdir, step, epoch + 1, asked)
                epoch += 1
                valid = evaluate_on("valid")
                plateau = schedule.update(
                    plateau,
                    monitored(valid),
                    epoch,
                    patience=settings.patience,
                    decay=settings.learning_rate_decay if optimizers.falls(settings) else 1.0,
                    min_learning_rate=settings.min_learning_rate,
                    min_delta=settings.min_delta,
                )
                rate = epoch * train_rows / seconds
                for field, use in use_of_embeddings().items():
                    board.add_scalar(f"embedding/effective_rank/{field}", use["effective_rank"], step)
                if _writes():
                    _report_epoch(workdir, board, epoch, step, float(of_epoch[-1]), latest_terms, valid, rate)
                check_state()
                if plateau.improved:
                    checkpoint.save(best, step, evaluated(), {"epoch": epoch})
                save(board)
                if asked := stopping.asked(requested, here=True):
                    raise stopping.stopped(workdir, step, epoch, asked)

        best_step = plateau.best_epoch * steps_per_epoch
        kept = checkpoint.restore(best, evaluated(), best_step)
        assert kept is not None
        (parameters, statistics), _ = kept
        state, average = state._replace(parameters=parameters, statistics=statistics), None

    return {
        "config": config.to_dict(),
        "students": students_in_full(config),
        "params": count,
        "best_epoch": plateau.best_epoch,
        "epochs": epoch,
        "valid": evaluate_on("valid"),
        "test": evaluate_on("test"),
        "embedding_use": use_of_embeddings(),
        "train_samples_per_second": epoch * train_rows / seconds,
        # The share of training time in which the loop asked for a batch that was not there yet.
        "input_wait": waited / seconds,
        "wall_seconds": earlier + time.perf_counter() - began,
        "seed": seed,
        "dataset": {
            "name": schema.dataset,
            "features": schema.num_features,
            "rows": schema.splits,
            "source": schema.source,
            "arrays": schema.arrays,
        },
        "device": jax.devices()[0].device_kind,
        "mesh": dict(mesh.shape),
        "versions": found,
    }


def evaluate(workdir: Path, split: str, data: Path | None = None) -> dict[str, Any]:
    """AUC and logloss of a finished run's best epoch on a split, as result.json has them.

    `data` is where its dataset is now, if it was moved. Writes nothing. Raises InputError for another dataset
    than the run's, or a best checkpoint that is gone or damaged.
    """
    config = recorded(read_result(workdir)["config"], workdir / "result.json")
    if data is None:
        data = rundata.where(config, workdir)
    schema, splits = encoded.open_dataset(data, [split])
    check_data(workdir, schema, data)
    rundata.check_classes(data, split, splits[split])
    model = teachers.load(workdir, schema)
    graphdef, parameters, *rest = nnx.split(model, nnx.Param, ...)
    (statistics,) = rest
    predict = make_predict(graphdef, compiler_options=compiler.options(config.ensemble.products))
    try:
        return evaluate_split(predict, parameters, statistics, splits[split], config.data.batch_size)
    except finite.NotFinite as error:
        raise InputError(
            f"{workdir}: evaluation of {split}: {error}; train again in another --workdir"
        ) from None


def versions() -> dict[str, str]:
    """Versions behind a result: Python and the packages that compute it."""
    packages = ("ektf-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    return versions_of(*packages)


def _check_best(best: ocp.CheckpointManager, step: int) -> None:
    """Raise InputError where the best weights so far are gone: at the end they would be what is evaluated."""
    if step and step not in best.all_steps():
        raise InputError(
            f"{best.directory}: no checkpoint {step}, the best so far; restore it, or train again in another"
            " --workdir"
        )


def _bar(epoch: int, steps: int, done: int) -> tqdm:
    # disable=None: no bar where the output is not a terminal.
    return tqdm(total=steps, initial=done, desc=f"epoch {epoch}", unit="step", leave=False, disable=None)


def _log(bar: tqdm, board: Board, step: int, terms: dict[str, Any], batch_size: int) -> None:
    scalars = {name: value for name, value in terms.items() if isinstance(value, float)}
    for name, value in scalars.items():
        board.add_scalar(f"train/{name}", value, step)
    rate = bar.format_dict["rate"] or 0.0
    shown = {name: f"{scalars[name]:.4f}" for name in ("loss", "ctr", "kd", "dml")}
    bar.set_postfix(shown | {"samples/s": f"{rate * batch_size:,.0f}"}, refresh=False)


def _report_epoch(
    workdir: Path,
    board: Board,
    epoch: int,
    step: int,
    learning_rate: float,
    terms: dict[str, Any],
    valid: dict[str, Any],
    samples_per_second: float,
) -> None:
    """One line on the terminal, one in metrics.jsonl, and TensorBoard."""
    line = {"epoch": epoch, "step": step, "learning_rate": learning_rate, "train": terms, "valid": valid}
    with (workdir / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")
    board.add_scalar("train/learning_rate", learning_rate, step)
    for index, metrics in enumerate([valid["ensemble"], *valid["students"]]):
        for name, value in metrics.items():
            board.add_scalar(f"valid/{name}/{f'student_{index - 1}' if index else 'ensemble'}", value, step)
    for name, value in valid.get("diversity", {}).items():
        board.add_scalar(f"valid/{name}", value, step)
    aucs = [student["auc"] for student in valid["students"]]
    students = f"  students {min(aucs):.6f} to {max(aucs):.6f}" if aucs else ""
    tqdm.write(
        f"epoch {epoch:3d}  lr {learning_rate:.0e}  valid AUC {valid['ensemble']['auc']:.6f}"
        f"  logloss {valid['ensemble']['logloss']:.6f}{students}  {samples_per_second:,.0f} samples/s"
    )


def _writes() -> bool:
    """Whether this process writes the run's files; of several, one does."""
    return jax.process_index() == 0
