"""What the terminal and TensorBoard are told of a run."""

import types

import jax
import numpy as np
import pytest

from ektf_jax.config import Config
from ektf_jax.training import listeners
from ektf_jax.training.listeners import MetricsFile, TensorBoard, Terminal
from ektf_jax.training.progress import Progress
from ektf_jax.training.schedule import Plateau
from tests.full_disk import no_file_longer_than
from tests.training.test_board import curve, events

TERMS = {
    "loss": 0.5,
    "ctr": 0.4,
    "kd": 0.06,
    "dml": 0.04,
    "scores": [0.7, 0.6],
    "teaching_weights": [0.45, 0.55],
    "peer_weights": [[0.0, 1.0], [0.75, 0.0]],
}
VALID = {"ensemble": {"auc": 0.75, "logloss": 0.5}, "students": [{"auc": 0.7, "logloss": 0.6}] * 2}


def make_run(workdir, step=3):
    """A run in its second epoch of four steps, 100 rows a step, as far as a listener reads it."""
    progress = Progress(Plateau(1e-3), step=step, seconds=2.0, rows=300)
    return types.SimpleNamespace(
        config=Config(),
        workdir=workdir,
        splits={"train": types.SimpleNamespace(labels=np.zeros(400))},
        parameters=1234,
        steps_per_epoch=4,
        mesh=jax.make_mesh((1,), ("data",)),
        progress=progress,
        epoch=step // 4,
        learning_rate=1e-3,
        samples_per_second=150.0,
    )


def test_a_run_begins_with_what_is_trained_and_says_when_it_compiles(tmp_path, capsys):
    terminal, run = Terminal(), make_run(tmp_path)
    terminal.begin(run)
    terminal.compiles(run)
    header, compiling = capsys.readouterr().out.splitlines()
    for part in ("ektf, K = 2 of mlp", "1,234 parameters", "400 rows", "4 steps an epoch", "1 x "):
        assert part in header
    assert compiling == "compiling the step"


@pytest.mark.parametrize(("seconds", "lines"), [(1, 0), (61, 1)])
def test_without_a_terminal_there_is_a_line_a_minute(tmp_path, capsys, monkeypatch, seconds, lines):
    now = [0.0]
    monkeypatch.setattr(listeners.time, "monotonic", lambda: now[0])
    terminal, run = Terminal(), make_run(tmp_path, step=4)
    terminal.epoch_begins(run)
    run.progress.step, run.progress.seconds, run.progress.rows = 6, 3.0, 500
    for _ in range(2):  # the second time within the same minute
        now[0] += seconds / 2 if seconds == 1 else (seconds if now[0] == 0 else 1)
        terminal.logged(run, TERMS)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == lines
    for line in told:
        assert line.startswith("epoch   2  step 2 of 4")
        assert "loss 0.5000" in line
        assert "samples/s 200" in line, "of this epoch: 200 rows in a second"


def test_an_epochs_line_has_its_rate_and_the_memory(tmp_path, capsys):
    terminal, run = Terminal(), make_run(tmp_path, step=4)
    terminal.epoch_begins(run)
    run.progress.seconds, run.progress.rows, run.epoch = 4.0, 700, 2
    terminal.evaluated(run, TERMS, VALID, {})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch   2  lr 1e-03  valid AUC 0.750000  logloss 0.500000  students 0.7")
    assert "  200 samples/s  " in line
    assert line.endswith(f"{listeners.peak_mebibytes():,.0f} MiB")
    assert listeners.peak_mebibytes() > 50


def test_tensorboard_has_who_scored_what_and_who_teaches_whom(tmp_path):
    board, run = TensorBoard(), make_run(tmp_path, step=3)
    board.begin(run)
    run.progress.step = 4
    board.logged(run, TERMS)
    use = {"effective_rank": 3.5, "information_abundance": 2.5, "spectrum": [4.0, 1.0, 0.5]}
    board.evaluated(run, TERMS, VALID | {"diversity": {"ambiguity": 0.01}}, {"f": use})
    board.end()
    expected = {
        "train/loss": 0.5,
        "train/scores/student_1": 0.6,
        "train/lambda/student_0": 0.45,
        "train/mu/student_0_of_1": 1.0,
        "train/mu/student_1_of_0": 0.75,
        "train/learning_rate": 1e-3,
        "train/samples_per_second": 150.0,
        "valid/auc/ensemble": 0.75,
        "valid/logloss/student_1": 0.6,
        "valid/ambiguity": 0.01,
        "embedding/effective_rank/f": 3.5,
        "embedding/information_abundance/f": 2.5,
    }
    for name, value in expected.items():
        assert curve(tmp_path / "tensorboard", name) == {4: pytest.approx(value)}, name
    assert curve(tmp_path / "tensorboard", "train/mu/student_0_of_0") == {}
    (spectrum,) = [
        value.histo
        for event in events(tmp_path / "tensorboard")
        for value in event.summary.value
        if value.tag == "embedding/spectrum/f"
    ]
    assert (spectrum.num, spectrum.min, spectrum.max, spectrum.sum) == (3, 0.5, 4, 5.5)


def test_lines_that_the_checkpoint_does_not_have_are_written_again(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    file, run = MetricsFile(), make_run(tmp_path, step=7)
    file.begin(run)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'


def test_metrics_to_a_full_disk_name_their_file(tmp_path):
    file, run = MetricsFile(), make_run(tmp_path)
    with no_file_longer_than(100), pytest.raises(OSError) as caught:  # noqa: PT011
        file.evaluated(run, TERMS, VALID, {})
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
