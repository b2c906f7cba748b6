"""Weights fit a model, leaf by leaf, or are refused; their path is a path."""

import re
import tempfile
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging

from ektf_jax.errors import InputError
from ektf_jax.training import checkpoint
from tests.full_disk import no_file_longer_than


class State(NamedTuple):
    parameters: dict
    moments: dict


def table(rows, padding=0, columns=3):
    """A table as a model starts with: every value's row is something, padding at the end is zeros."""
    values = jnp.pad(
        1 + jnp.arange(rows * columns, dtype=jnp.float32).reshape(rows, columns), ((0, padding), (0, 0))
    )
    return {"embedding": {"table": values}}


def state(rows=5, padding=0, **kernel):
    shape, dtype = kernel.get("shape", (4, 2)), kernel.get("dtype", jnp.float32)
    parameters = table(rows, padding) | {"groups": {"0": {"students": {"kernel": jnp.ones(shape, dtype)}}}}
    return State(parameters, jax.tree.map(jnp.zeros_like, parameters))


def saved(tmp_path, tree):
    with checkpoint.open_checkpoints(tmp_path / "latest") as manager:
        checkpoint.save(manager, 7, tree, {"epoch": 1})
    return tmp_path / "latest"


def restore(directory, like):
    with checkpoint.open_checkpoints(directory, read_only=True) as manager:
        return checkpoint.restore(manager, like)


def refused(directory, like, leaf, there, here):
    with pytest.raises(InputError, match=re.escape(f"{leaf} is {there} in the checkpoint")) as error:
        restore(directory, like)
    assert f"and {here} in the model" in str(error.value)
    assert str(directory / "7") in str(error.value)


def assert_equal(tree, expected):
    jax.tree.map(np.testing.assert_array_equal, tree, expected)


def test_what_was_saved_comes_back(tmp_path):
    tree, progress = restore(saved(tmp_path, state()), jax.tree.map(jnp.zeros_like, state()))
    assert_equal(tree, state())
    assert progress == {"epoch": 1}


def test_reading_warns_of_nothing(tmp_path, caplog):
    restore(saved(tmp_path, table(5)), table(5))
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == []
    logging.get_absl_logger().warning("of something else")
    assert "of something else" in caplog.text


def test_a_step_that_is_there_already_removes_what_it_supersedes(tmp_path, monkeypatch):
    """A kill between a save and that removal leaves one too many, which no later save may come to remove."""
    directory = tmp_path / "best"
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_KEEP", 4)
        with checkpoint.open_checkpoints(directory) as manager:
            for step in (1, 2, 3, 4):
                checkpoint.save(manager, step, state(), {"epoch": step})
    for step, left in ((1, [1, 2, 3, 4]), (3, [2, 3, 4]), (4, [3, 4]), (3, [3, 4])):
        with checkpoint.open_checkpoints(directory) as manager:
            checkpoint.save(manager, step, state(), {"epoch": step})
            assert sorted(manager.all_steps()) == left
        assert sorted(int(path.name) for path in directory.iterdir()) == left


KERNEL = "parameters/groups/0/students/kernel"


@pytest.mark.parametrize("shape", [(6, 2), (3, 2), (4, 1), (4, 2, 1), (8,), ()])
def test_another_shape_is_refused(tmp_path, shape):
    """A larger one would be cut, a smaller one filled up with zeros."""
    there = "moments/groups/0/students/kernel"
    refused(saved(tmp_path, state(shape=shape)), state(), there, f"float32 {list(shape)}", "float32 [4, 2]")


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.int32])
def test_another_dtype_is_refused(tmp_path, dtype):
    there = "moments/groups/0/students/kernel"
    refused(
        saved(tmp_path, state(dtype=dtype)), state(), there, f"{np.dtype(dtype)} [4, 2]", "float32 [4, 2]"
    )


def test_leaves_of_one_side_alone_are_refused(tmp_path):
    more = state()
    more.parameters["gate"] = jnp.ones(3)
    refused(saved(tmp_path / "a", state()), more, "parameters/gate", "not there", "float32 [3]")
    refused(saved(tmp_path / "b", more), state(), "parameters/gate", "float32 [3]", "not there")


@pytest.mark.parametrize(("there", "here"), [(0, 3), (3, 0), (1, 3), (3, 1)])
def test_padding_of_the_table_and_its_moments_is_cut_and_filled(tmp_path, there, here):
    tree, _ = restore(saved(tmp_path, state(padding=there)), state(padding=here))
    assert_equal(tree, state(padding=here))


@pytest.mark.parametrize("part", ["parameters", "moments"])
@pytest.mark.parametrize("value", [1.0, -1e-30, np.nan])
def test_padding_that_is_something_is_not_cut_off(tmp_path, part, value):
    tree = state(padding=3)
    held = getattr(tree, part)["embedding"]
    held["table"] = held["table"].at[6, 1].set(value)
    refused(saved(tmp_path, tree), state(), f"{part}/embedding/table", "float32 [8, 3]", "float32 [5, 3]")


def test_a_table_of_more_or_fewer_values_is_refused(tmp_path):
    larger = state(rows=6)
    refused(
        saved(tmp_path / "a", larger),
        state(),
        "parameters/embedding/table",
        "float32 [6, 3]",
        "float32 [5, 3]",
    )
    # The moments of the other one are zeros everywhere, and say nothing of what is padding.
    refused(
        saved(tmp_path / "b", state()),
        larger,
        "parameters/embedding/table",
        "float32 [5, 3]",
        "float32 [6, 3]",
    )
    wider = state()
    wider.parameters["embedding"]["table"] = jnp.ones((5, 4))
    refused(
        saved(tmp_path / "c", wider),
        state(),
        "parameters/embedding/table",
        "float32 [5, 4]",
        "float32 [5, 3]",
    )


def test_moments_of_fewer_rows_than_their_table_are_refused(tmp_path):
    tree = state()
    tree.moments["embedding"]["table"] = jnp.zeros((3, 3))
    refused(saved(tmp_path, tree), state(), "moments/embedding/table", "float32 [3, 3]", "float32 [5, 3]")


def test_a_students_own_table_is_no_exception(tmp_path):
    def own(rows):
        tree = state()
        tree.parameters["groups"]["0"]["students"] |= {"embedding": {"table": jnp.zeros((rows, 2))}}
        return tree

    leaf = "parameters/groups/0/students/embedding/table"
    refused(saved(tmp_path, own(4)), own(3), leaf, "float32 [4, 2]", "float32 [3, 2]")


@pytest.mark.parametrize("odd", ["x [v2]", "a?", "*"])
def test_a_path_is_a_path(tmp_path, odd, monkeypatch):
    """Orbax looks for a checkpoint's files by a pattern: a run could not end with a result, nor go on."""
    directory = tmp_path / odd / "run" / "checkpoints"
    tree = {"w": jnp.arange(6.0)}
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for step in (1, 2):
        with checkpoint.open_checkpoints(directory) as manager:
            checkpoint.save(manager, step, tree, {"epoch": step})
            restored, progress = checkpoint.restore(manager, tree)
    with checkpoint.open_checkpoints(directory, read_only=True) as manager:
        restored, progress = checkpoint.restore(manager, tree)
    np.testing.assert_array_equal(restored["w"], tree["w"])
    assert progress == {"epoch": 2}
    assert sorted(path.name for path in directory.iterdir()) == ["1", "2"]
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [('"epoch": 2', '"epoch": 9'), ('"epoch"', '"epock"'), ('"epoch": 2', '"epoch": "2"'), ("{", "[{")],
)
def test_a_checkpoint_whose_progress_was_damaged_is_passed_over(tmp_path, before, after):
    """Also where it is still JSON of some other progress, with which a run would end otherwise."""
    tree = {"w": jnp.arange(6.0)}
    with checkpoint.open_checkpoints(tmp_path) as manager:
        for step in (1, 2):
            checkpoint.save(manager, step, tree, {"epoch": step})
    path = tmp_path / "2/progress/metadata"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with checkpoint.open_checkpoints(tmp_path) as manager:
        _, progress = checkpoint.restore(manager, tree, shape={"epoch": int}, delete_damaged=True)
    assert progress == {"epoch": 1}
    assert not path.exists()


def test_progress_of_before_there_were_digests_is_read(tmp_path):
    tree = {"w": jnp.arange(6.0)}
    with checkpoint.open_checkpoints(tmp_path) as manager:
        checkpoint.save(manager, 1, tree, {})
    path = tmp_path / "1/progress/metadata"
    for text, read in (('{"epoch": 1, "best": -Infinity}', True), ('{"epoch": true}', False)):
        path.write_text(text)
        with checkpoint.open_checkpoints(tmp_path, read_only=True) as manager:
            if read:
                found = checkpoint.restore(manager, tree, shape={"epoch": int})
                assert found is not None
                assert found[1]["epoch"] == 1
            else:
                with pytest.raises(InputError, match="no checkpoint can be read"):
                    checkpoint.restore(manager, tree, shape={"epoch": int})


def test_a_checkpoint_to_a_full_disk_says_so(tmp_path):
    tree = {"w": jnp.arange(1e5)}
    with checkpoint.open_checkpoints(tmp_path) as manager:
        checkpoint.save(manager, 1, tree, {"epoch": 1})
        said = rf"{tmp_path}: checkpoint 2 cannot be written .*; make room"
        with no_file_longer_than(100), pytest.raises(InputError, match=said):
            checkpoint.save(manager, 2, tree, {"epoch": 2})
    assert restore(tmp_path, tree)[1] == {"epoch": 1}


def test_errors_name_the_directory_itself(tmp_path):
    directory = tmp_path / "x [v2]" / "checkpoints"
    tree = {"w": jnp.arange(6.0)}
    with checkpoint.open_checkpoints(directory) as manager:
        checkpoint.save(manager, 1, tree, {})
    for path in [path for path in directory.rglob("*") if path.is_file()]:
        path.write_bytes(b"")
    with checkpoint.open_checkpoints(directory) as manager, pytest.raises(InputError) as error:
        checkpoint.restore(manager, tree)
    assert str(directory) in str(error.value)
