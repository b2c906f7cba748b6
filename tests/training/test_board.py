"""TensorBoard's files are whole up to a checkpoint, whatever ends the process after it."""

import contextlib
import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from ektf_jax.training import checkpoint, loop
from ektf_jax.training.board import Board
from tests.full_disk import no_file_longer_than


def events(directory):
    """What the files on the disk hold now, in TensorBoard's order; of a torn end nothing."""
    found = []
    for path in sorted(directory.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while len(content) >= 12:
            (length,) = struct.unpack("Q", content[:8])
            if len(content) < length + 16:
                break
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def curve(directory, name):
    """The points of a curve as TensorBoard shows them: a restart drops those that its checkpoint lacks."""
    points = {}
    for event in events(directory):
        if event.HasField("session_log"):
            points = {step: value for step, value in points.items() if step < event.step}
        for value in event.summary.value:
            if value.tag == name:
                points[event.step] = value.simple_value
    return points


def test_what_was_flushed_is_on_the_disk(tmp_path):
    board = Board(tmp_path / "new", 1)
    for step in range(1, 500):
        board.add_scalar("train/loss", step / 2, step)
    board.flush()
    assert curve(tmp_path / "new", "train/loss") == {step: step / 2 for step in range(1, 500)}
    board.close()


def test_a_restart_drops_what_its_checkpoint_does_not_have(tmp_path):
    for start in (1, 5, 5):  # within one second
        board = Board(tmp_path, start)
        for step in range(start, start + 10):
            board.add_scalar("train/loss", start + step, step)
        board.close()
    assert len(list(tmp_path.iterdir())) == 3
    assert curve(tmp_path, "train/loss") == {s: s + (1 if s < 5 else 5) for s in range(1, 15)}


def test_of_several_processes_the_others_write_nothing(tmp_path):
    board = Board(None, 1)
    board.add_scalar("train/loss", 1.0, 1)
    board.flush()
    board.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_with_the_file(tmp_path):
    board = Board(tmp_path, 1)
    (file,) = tmp_path.iterdir()
    for step in range(10):
        board.add_scalar("train/loss", 1.0, step)
    with no_file_longer_than(100), pytest.raises(OSError) as caught:  # noqa: PT011
        board.flush()
    assert caught.value.filename == str(file)
    with contextlib.suppress(OSError):
        board.close()


class Killed(BaseException):
    pass


def test_no_point_before_a_checkpoint_is_missing_after_kills(tmp_path, tiny_config, monkeypatch):
    """Right after a checkpoint is the worst moment: what the process still holds then is lost."""
    config, workdir = tiny_config(max_epochs=2), tmp_path / "run"
    config["data"]["batch_size"] = 64  # no short batch: a step compiles once
    logged = [s for s in range(1, 51) if s % 7 == 0 or s % 10 == 0 or s in (25, 50)]
    real = checkpoint.save
    for kill_at in (20, 40, None):

        def save(manager, step, *rest, kill_at=kill_at):
            real(manager, step, *rest)
            if step == kill_at and manager.directory.name == "latest":
                # What is on the disk is all that a kill leaves.
                points = curve(workdir / "tensorboard", "train/loss")
                assert sorted(points) == [s for s in logged if s <= step]
                raise Killed

        monkeypatch.setattr(checkpoint, "save", save)
        if kill_at is None:
            loop.train(config, workdir)
        else:
            with pytest.raises(Killed):
                loop.train(config, workdir)
    assert sorted(curve(workdir / "tensorboard", "train/loss")) == logged
    assert sorted(curve(workdir / "tensorboard", "valid/auc/ensemble")) == [25, 50]
