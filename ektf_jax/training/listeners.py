"""What listens to a run in training: the terminal, metrics.jsonl, TensorBoard, and what else one gives it."""

import json
import resource
import sys
import time
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from ektf_jax.files import naming
from ektf_jax.training.board import Board
from ektf_jax.training.record import drop_lines_after
from ektf_jax.training.training import Training

Told = dict[str, Any]

_A_MINUTE = 60.0


class Listener:
    """Is told what happens, in the order of the methods; what it raises ends the run there."""

    def begin(self, run: Training) -> None:
        """Before the first step of this process, after what was saved is restored."""

    def epoch_begins(self, run: Training) -> None:
        """Before the steps of an epoch, or what is left of them."""

    def compiles(self, run: Training) -> None:
        """Before the first step of this process."""

    def stepped(self, run: Training) -> None:
        """After each step, which the device may not have done yet. Of steps that are one dispatch
        (`data.residence`) it is told after that, and `run.state` is that after the last of them.
        """

    def logged(self, run: Training, terms: Told) -> None:
        """Every `train.log_every` steps and wherever a run is saved: the terms of the newest step."""

    def evaluated(self, run: Training, terms: Told, valid: Told, use: Told) -> None:
        """After each epoch: terms of its last step, metrics of its evaluation, `Training.embedding_use`."""

    def saves(self, run: Training) -> None:
        """Before a checkpoint is written: what it tells of should be on the disk by then."""

    def end(self) -> None:
        """At the end, also of a run that fails."""


class Terminal(Listener):
    """A header, a bar, where there is no terminal a line a minute, and a line for each epoch.

    `name` is that of a run among others, which has no bar: it stands before each line.
    """

    def __init__(self, name: str = ""):
        self._name = f"{name}: " if name else ""

    def begin(self, run: Training) -> None:
        config = run.config
        rows = len(run.splits["train"].labels)
        self._write(
            f"{config.transfer.name}, K = {config.ensemble.num_students} of"
            f" {', '.join(config.ensemble.students)}:"
            f" {run.parameters:,} parameters; {rows:,} rows, {run.steps_per_epoch:,} steps an epoch;"
            f" {run.mesh.size} x {jax.devices()[0].device_kind}"
        )

    def compiles(self, run: Training) -> None:
        self._write("compiling the step")

    def epoch_begins(self, run: Training) -> None:
        self._rows, self._seconds = run.progress.rows, run.progress.seconds
        self._told = time.monotonic()
        # disable=None: no bar where the output is not a terminal.
        self._bar = tqdm(
            total=run.steps_per_epoch,
            initial=run.progress.step % run.steps_per_epoch,
            desc=f"epoch {run.epoch + 1}",
            unit="step",
            leave=False,
            disable=True if self._name else None,
        )

    def logged(self, run: Training, terms: Told) -> None:
        shown = {name: f"{terms[name]:.4f}" for name in ("loss", "ctr", "kd", "dml")}
        shown["samples/s"] = f"{self._rate(run):,.0f}"
        epoch, before = divmod(run.progress.step - 1, run.steps_per_epoch)
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(before + 1 - self._bar.n)
        if self._bar.disable and time.monotonic() - self._told >= _A_MINUTE:
            self._told = time.monotonic()
            told = "  ".join(f"{name} {value}" for name, value in shown.items())
            self._write(f"epoch {epoch + 1:3d}  step {before + 1:,} of {run.steps_per_epoch:,}  {told}")

    def evaluated(self, run: Training, terms: Told, valid: Told, use: Told) -> None:
        self._bar.close()
        aucs = [student["auc"] for student in valid["students"]]
        students = f"  students {min(aucs):.6f} to {max(aucs):.6f}" if aucs else ""
        scores = "  ".join(f"{name.replace('auc', 'AUC')} {x:.6f}" for name, x in valid["ensemble"].items())
        self._write(
            f"epoch {run.epoch:3d}  lr {run.learning_rate:.0e}  valid {scores}{students}"
            f"  {self._rate(run):,.0f} samples/s  {peak_mebibytes():,.0f} MiB"
        )

    def end(self) -> None:
        if hasattr(self, "_bar"):
            self._bar.close()

    def _write(self, line: str) -> None:
        tqdm.write(self._name + line)

    def _rate(self, run: Training) -> float:
        """Samples per second of this epoch so far, without what compiled."""
        seconds = run.progress.seconds - self._seconds
        return (run.progress.rows - self._rows) / seconds if seconds else 0.0


class MetricsFile(Listener):
    """metrics.jsonl, a line for each evaluation."""

    def begin(self, run: Training) -> None:
        drop_lines_after(run.workdir / "metrics.jsonl", run.epoch)

    def evaluated(self, run: Training, terms: Told, valid: Told, use: Told) -> None:
        line = {"epoch": run.epoch, "step": run.progress.step, "learning_rate": run.learning_rate}
        path = run.workdir / "metrics.jsonl"
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line | {"train": terms, "valid": valid}, allow_nan=False) + "\n")


class TensorBoard(Listener):
    """The same as curves: the terms of the loss, who scored what, who teaches whom, and the metrics."""

    def begin(self, run: Training) -> None:
        self._board = Board(run.workdir / "tensorboard", run.progress.step + 1)

    def logged(self, run: Training, terms: Told) -> None:
        for name, value in terms.items():
            # A curve for each pair of students is for the end of an epoch.
            if name != "peer_weights":
                self._add(run, name, value)

    def evaluated(self, run: Training, terms: Told, valid: Told, use: Told) -> None:
        step = run.progress.step
        self._add(run, "peer_weights", terms["peer_weights"])
        self._board.add_scalar("train/learning_rate", run.learning_rate, step)
        self._board.add_scalar("train/samples_per_second", run.samples_per_second, step)
        self._board.add_scalar("train/peak_mebibytes", peak_mebibytes(), step)
        for index, metrics in enumerate([valid["ensemble"], *valid["students"]]):
            for name, value in metrics.items():
                of = f"student_{index - 1}" if index else "ensemble"
                self._board.add_scalar(f"valid/{name}/{of}", value, step)
        for name, value in valid.get("diversity", {}).items():
            self._board.add_scalar(f"valid/{name}", value, step)
        for field, used in use.items():
            for measure in ("effective_rank", "information_abundance"):
                self._board.add_scalar(f"embedding/{measure}/{field}", used[measure], step)
            self._board.add_histogram(f"embedding/spectrum/{field}", used["spectrum"], step)

    def saves(self, run: Training) -> None:
        self._board.flush()

    def end(self) -> None:
        if hasattr(self, "_board"):
            self._board.close()

    def _add(self, run: Training, name: str, value: Any) -> None:
        """A curve `train/NAME`, or one for each student, or pair: student_0_of_1 is what 0 has of 1."""
        name = {"teaching_weights": "lambda", "peer_weights": "mu"}.get(name, name)
        for index, each in np.ndenumerate(np.asarray(value)):
            if len(index) == 2 and index[0] == index[1]:
                continue
            of = f"/student_{'_of_'.join(map(str, index))}" if index else ""
            self._board.add_scalar(f"train/{name}{of}", float(each), run.progress.step)


def peak_mebibytes() -> float:
    """The most memory so far: of the first device where it counts, as accelerators do, or of this process."""
    counted = jax.local_devices()[0].memory_stats() or {}
    unit = 1 if sys.platform == "darwin" else 1024
    return counted.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit) / 2**20
