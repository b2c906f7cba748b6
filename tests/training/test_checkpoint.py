import tempfile

import jax.numpy as jnp
import numpy as np
import pytest

from ektf_jax.errors import InputError
from ektf_jax.training import checkpoint


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
