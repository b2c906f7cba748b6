"""One training run: from a config and a working directory to result.json, resumable at any moment."""

import contextlib
import fcntl
import importlib.metadata
import json
import platform
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from tensorboardX import SummaryWriter
from tqdm import tqdm

from ektf_jax import sharding
from ektf_jax.data import encoded, loader, synthetic
from ektf_jax.data.schema import SPLITS, Schema
from ektf_jax.ensemble import count_parameters
from ektf_jax.errors import InputError
from ektf_jax.files import read_json, write_json, write_text
from ektf_jax.training import build, checkpoint, compiler, schedule, teachers
from ektf_jax.training.evaluate import evaluate_split
from ektf_jax.training.step import (
    StepMetrics,
    init_state,
    init_state_on,
    make_optimizer,
    make_predict,
    make_train_step,
    with_learning_rate,
    without_learning_rate,
)


def train(config: build.Config, workdir: Path) -> dict[str, Any]:
    """Train until early stopping, evaluate the best epoch, write WORKDIR/result.json and return it.

    Started again with the same config the run goes on from its newest checkpoint, to the same bits as if it
    had never been interrupted; a finished run returns its result. `config` is plain nested data with the
    keys of configs/base.py, already checked for unknown ones.

    Raises:
      InputError: a bad value, a dataset or working directory that cannot be used, a non-finite loss.
    """
    build.check_values(config)
    build.make_students(config)
    build.make_loss(config)
    # All that can be wrong is looked for before anything is written.
    opened = None
    if config["data"]["path"]:
        opened = _open(config, Path(config["data"]["path"]))
    else:
        spec = build.make_synthetic_spec(config)
        _check_batch_size(config, "the generated data", synthetic.training_rows(spec))
    mesh = build.make_mesh(config)
    teachers.check(config, workdir, opened[0] if opened else None)
    workdir.mkdir(parents=True, exist_ok=True)
    # Of several processes the first one writes, and the others wait for it where they read that.
    with _exclusive(workdir) if _writes() else contextlib.nullcontext():
        if _writes():
            _claim_config(workdir, config)
        result_file = workdir / "result.json"
        if result_file.exists():
            if opened:
                teachers.check_data(workdir, opened[0], config["data"]["path"])
            tqdm.write(f"{workdir}: finished; result.json stays as it is")
            return teachers.read_result(workdir)
        if _writes():
            dataset(config, workdir)
        multihost_utils.sync_global_devices("dataset")
        schema, splits = opened or _open(config, dataset(config, workdir))
        if _writes():
            _claim_data(workdir, schema, _where(config, workdir))
        teachers.check(config, workdir, schema)
        result = _run(config, workdir, mesh, schema, splits)
        if _writes():
            write_json(result_file, result)
        return result


def _run(
    config: build.Config, workdir: Path, mesh: Mesh, schema: Schema, splits: dict[str, encoded.Split]
) -> dict[str, Any]:
    settings, batch_size, seed = config["train"], config["data"]["batch_size"], config["seed"]
    model_key, dropout_key = jax.random.split(jax.random.key(seed))
    make_model = partial(build.make_model, config, schema, model_key)
    parameters = count_parameters(nnx.eval_shape(make_model))
    optimizer = make_optimizer(settings["clip_norm"])
    teach = None
    if teachers.directories(config, workdir):
        model, teach = teachers.make_model(config, workdir, schema, model_key, mesh)
        graphdef, state = init_state(model, optimizer, dropout_key)
        state = jax.device_put(state, sharding.state_shardings(state, mesh))
    else:
        graphdef, state = init_state_on(mesh, partial(make_model, mesh=mesh), optimizer, dropout_key)
    compiler_options = compiler.options(config["ensemble"]["products"])
    train_step = make_train_step(
        graphdef,
        optimizer,
        build.make_loss(config),
        l2=config["embedding"]["l2"],
        mesh=mesh,
        compiler_options=compiler_options,
    )
    predict = make_predict(graphdef, mesh=mesh, compiler_options=compiler_options)
    batches, steps_per_epoch = loader.training_batches(
        splits["train"],
        batch_size,
        seed=seed,
        epochs=settings["max_epochs"],
        gather=sharding.make_gather(mesh),
    )
    train_rows = len(splits["train"].labels)
    plateau = schedule.Plateau(settings["learning_rate"])
    step, seconds, waited, earlier = 0, 0.0, 0.0, 0.0
    began = time.perf_counter()

    def evaluate_on(split: str) -> dict[str, Any]:
        return evaluate_split(predict, state.parameters, state.statistics, splits[split], batch_size)

    def monitored(valid: dict[str, Any]) -> float:
        """What has to rise: the AUC, or less of the distillation loss, which ECKD stops early by."""
        if config["transfer"]["name"] != "eckd":
            return valid["ensemble"]["auc"]
        assert teach is not None
        valid["distillation_loss"] = teachers.distillation_loss(
            predict,
            teach,
            state.parameters,
            state.statistics,
            splits["valid"],
            batch_size,
            config["transfer"]["eckd"]["temperature"],
        )
        return -valid["distillation_loss"]

    def save() -> None:
        wall = earlier + time.perf_counter() - began
        progress = {
            "plateau": plateau._asdict(),
            "batches": batches.get_state(),
            "seconds": seconds,
            "waited_seconds": waited,
            "wall_seconds": wall,
        }
        checkpoint.save(latest, step, without_learning_rate(state), progress)

    with (
        checkpoint.open_checkpoints(workdir / "checkpoints" / "latest") as latest,
        checkpoint.open_checkpoints(workdir / "checkpoints" / "best") as best,
    ):
        like = without_learning_rate(state)
        if (restored := checkpoint.restore(latest, like, delete_damaged=True)) is not None:
            saved, progress = restored
            state = with_learning_rate(saved, state)
            step = int(state.step)
            seconds, waited = progress["seconds"], progress["waited_seconds"]
            earlier = progress["wall_seconds"]
            plateau = schedule.Plateau(**progress["plateau"])
            batches.set_state(progress["batches"])
            tqdm.write(f"{workdir}: going on after step {step}")
        epoch = step // steps_per_epoch
        if _writes():
            _drop_lines_after(workdir / "metrics.jsonl", epoch)

        with SummaryWriter(workdir / "tensorboard", purge_step=step + 1, write_to_disk=_writes()) as board:
            while epoch < settings["max_epochs"] and not plateau.stopped:
                learning_rate = np.float32(plateau.learning_rate)
                pending: list[tuple[int, StepMetrics]] = []
                with _bar(epoch + 1, steps_per_epoch, step % steps_per_epoch) as bar:
                    started = time.perf_counter()
                    while step < (epoch + 1) * steps_per_epoch:
                        asked = time.perf_counter()
                        ids, labels = next(batches)
                        waited += time.perf_counter() - asked
                        lesson = () if teach is None else (teach(ids),)
                        state, metrics = train_step(state, ids, labels, learning_rate, *lesson)
                        step += 1
                        pending.append((step, metrics))
                        end_of_epoch = step == (epoch + 1) * steps_per_epoch
                        due = step % settings["checkpoint_every"] == 0 and not end_of_epoch
                        if due or end_of_epoch or step % settings["log_every"] == 0:
                            latest_terms = _finite_terms(pending, workdir)
                            bar.update(len(pending))
                            pending.clear()
                            seconds += time.perf_counter() - started
                            started = time.perf_counter()
                            _log(bar, board, step, latest_terms, batch_size)
                            if due:
                                save()
                                started = time.perf_counter()
                epoch += 1
                valid = evaluate_on("valid")
                plateau = schedule.update(
                    plateau,
                    monitored(valid),
                    epoch,
                    patience=settings["patience"],
                    decay=settings["learning_rate_decay"],
                    min_learning_rate=settings["min_learning_rate"],
                    min_delta=settings["min_delta"],
                )
                rate = epoch * train_rows / seconds
                if _writes():
                    _report_epoch(
                        workdir, board, epoch, step, float(learning_rate), latest_terms, valid, rate
                    )
                if plateau.improved:
                    checkpoint.save(best, step, (state.parameters, state.statistics), {"epoch": epoch})
                save()

        best_step = plateau.best_epoch * steps_per_epoch
        weights = checkpoint.restore(best, (state.parameters, state.statistics), best_step)
        assert weights is not None
        (best_parameters, best_statistics), _ = weights
        state = state._replace(parameters=best_parameters, statistics=best_statistics)

    return {
        "config": config,
        "params": parameters,
        "best_epoch": plateau.best_epoch,
        "epochs": epoch,
        "valid": evaluate_on("valid"),
        "test": evaluate_on("test"),
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
        },
        "device": jax.devices()[0].device_kind,
        "mesh": dict(mesh.shape),
        "versions": versions(),
    }


def evaluate(workdir: Path, split: str, data: Path | None = None) -> dict[str, Any]:
    """AUC and logloss of a finished run's best epoch on a split, as result.json has them.

    `data` is where its dataset is now, if it was moved. Writes nothing. Raises InputError for another dataset
    than the run's, or a best checkpoint that is gone or damaged.
    """
    config = teachers.read_result(workdir)["config"]
    if data is None:
        data = _where(config, workdir)
    schema = encoded.open_schema(data)
    teachers.check_data(workdir, schema, data)
    model = teachers.load(workdir, schema)
    graphdef, parameters, *rest = nnx.split(model, nnx.Param, ...)
    (statistics,) = rest
    rows = encoded.open_split(data, split)
    predict = make_predict(graphdef, compiler_options=compiler.options(config["ensemble"]["products"]))
    return evaluate_split(predict, parameters, statistics, rows, config["data"]["batch_size"])


def dataset(config: build.Config, workdir: Path) -> Path:
    """The encoded dataset of a run: config.data.path, or one generated into the working directory."""
    data = _where(config, workdir)
    if not config["data"]["path"] and not data.exists():
        synthetic.prepare(build.make_synthetic_spec(config), data)
    return data


def _where(config: build.Config, workdir: Path) -> Path:
    """Where a run's encoded dataset is, or will be once it is generated."""
    return Path(config["data"]["path"] or workdir / "data")


def versions() -> dict[str, str]:
    """Versions behind a result: Python and the packages that compute it."""
    packages = ("ektf-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }


def _open(config: build.Config, data: Path) -> tuple[Schema, dict[str, encoded.Split]]:
    """Schema and splits of an encoded dataset that this config can be trained on."""
    schema = encoded.open_schema(data)
    splits = {name: encoded.open_split(data, name) for name in SPLITS}
    _check_batch_size(config, data, len(splits["train"].labels))
    for name, split in splits.items():
        if name != "train" and split.labels.min() == split.labels.max():
            raise InputError(
                f"{data / name}: all labels are {split.labels[0]:g}, so AUC is undefined; prepare more rows"
            )
    return schema, splits


def _check_batch_size(config: build.Config, data: Path | str, rows: int) -> None:
    batch_size = config["data"]["batch_size"]
    where = f"config.data.batch_size = {batch_size}"
    if batch_size > rows:
        raise InputError(f"{where} is larger than the training split of {data} ({rows} rows)")
    if rows % batch_size == 1:
        raise InputError(
            f"{where} leaves one row of the training split of {data} ({rows} rows) for the last batch, which"
            " BatchNorm cannot normalise; choose another"
        )


def _finite_terms(pending: list[tuple[int, StepMetrics]], workdir: Path) -> dict[str, Any]:
    """The terms of the newest of these steps, after waiting for it and checking all of them."""
    terms: dict[str, Any] = {}
    for step, metrics in jax.device_get(pending):
        terms = {
            "ctr": metrics.terms.ctr,
            "kd": metrics.terms.kd,
            "dml": metrics.terms.dml,
            "own": metrics.own,
            "l2": metrics.l2,
            "loss": metrics.loss,
            "gradient_norm": metrics.gradient_norm,
        }
        for name, value in terms.items():
            if not np.isfinite(value):
                raise InputError(
                    f"step {step}: {name} is {value}; the last good checkpoint stays in"
                    f" {workdir / 'checkpoints'}; try a lower config.train.learning_rate in a new --workdir"
                )
        terms |= {
            "scores": metrics.terms.scores,
            "teaching_weights": metrics.terms.teaching_weights,
            "peer_weights": metrics.terms.peer_weights,
        }
    return {name: np.asarray(value).tolist() for name, value in terms.items()}


def _bar(epoch: int, steps: int, done: int) -> tqdm:
    # disable=None: no bar where the output is not a terminal.
    return tqdm(total=steps, initial=done, desc=f"epoch {epoch}", unit="step", leave=False, disable=None)


def _log(bar: tqdm, board: SummaryWriter, step: int, terms: dict[str, Any], batch_size: int) -> None:
    scalars = {name: value for name, value in terms.items() if isinstance(value, float)}
    for name, value in scalars.items():
        board.add_scalar(f"train/{name}", value, step)
    rate = bar.format_dict["rate"] or 0.0
    shown = {name: f"{scalars[name]:.4f}" for name in ("loss", "ctr", "kd", "dml")}
    bar.set_postfix(shown | {"samples/s": f"{rate * batch_size:,.0f}"}, refresh=False)


def _report_epoch(
    workdir: Path,
    board: SummaryWriter,
    epoch: int,
    step: int,
    learning_rate: float,
    terms: dict[str, Any],
    valid: dict[str, Any],
    samples_per_second: float,
) -> None:
    """One line on the terminal, one in metrics.jsonl, and TensorBoard."""
    line = {"epoch": epoch, "step": step, "learning_rate": learning_rate, "train": terms, "valid": valid}
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    board.add_scalar("train/learning_rate", learning_rate, step)
    for index, metrics in enumerate([valid["ensemble"], *valid["students"]]):
        for name, value in metrics.items():
            board.add_scalar(f"valid/{name}/{f'student_{index - 1}' if index else 'ensemble'}", value, step)
    aucs = [student["auc"] for student in valid["students"]]
    students = f"  students {min(aucs):.6f} to {max(aucs):.6f}" if aucs else ""
    tqdm.write(
        f"epoch {epoch:3d}  lr {learning_rate:.0e}  valid AUC {valid['ensemble']['auc']:.6f}"
        f"  logloss {valid['ensemble']['logloss']:.6f}{students}  {samples_per_second:,.0f} samples/s"
    )


def _drop_lines_after(path: Path, epoch: int) -> None:
    """Cut metrics.jsonl back to the epochs that the checkpoint holds; a kill may have torn its last line."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            if json.loads(line)["epoch"] <= epoch:
                kept.append(line + "\n")
    write_text(path, "".join(kept))


def _writes() -> bool:
    """Whether this process writes the run's files; of several, one does."""
    return jax.process_index() == 0


# No part of what a run is: where it is computed, how often it tells;
# and where its data is, for dataset.json says which.
_NOT_THE_RUN = ("mesh", "data.path:", "train.log_every:", "train.checkpoint_every:")


def _claim_config(workdir: Path, config: build.Config) -> None:
    """Record the run that a working directory is for, or raise InputError if it is for another one."""
    path = workdir / "config.json"
    if not path.exists():
        write_json(path, config)
        return
    found = _differences(read_json(path), json.loads(json.dumps(config)))
    changed = sorted(difference for difference in found if not difference.startswith(_NOT_THE_RUN))
    if changed:
        raise InputError(
            f"{workdir} holds a run of another config ({'; '.join(changed)}); choose another --workdir"
        )


def _claim_data(workdir: Path, schema: Schema, data: Path) -> None:
    """Record the dataset that a run is trained on, or raise InputError if it was another one."""
    path = workdir / "dataset.json"
    if path.exists():
        teachers.check_data(workdir, schema, data)
    else:
        write_json(path, {"schema_sha256": schema.fingerprint})


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield f"{path}: {old!r} there, {new!r} now"


@contextlib.contextmanager
def _exclusive(workdir: Path) -> Iterator[None]:
    """Hold the working directory for this process; the lock goes with the process, however it ends."""
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{workdir}: another process is training here; wait for it or stop it") from None
        yield
