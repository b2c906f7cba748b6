"""A run means the same on every mesh: 8 virtual CPU devices, in one process and in two."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ektf_jax import sharding
from ektf_jax.config import Config
from ektf_jax.errors import InputError
from ektf_jax.training import build
from tests import on_devices
from tests.compilation import optimizations

MESHES = [[2, 2, 2], [1, 4, 2]]


def start(*arguments, devices=8):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.on_devices", *arguments],
        cwd=Path(__file__).parents[1],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, status=0):
    output, errors = process.communicate(timeout=300)
    assert process.returncode == status, errors
    return output


@pytest.fixture(scope="module")
def one_device():
    return on_devices.losses([1, 1, 1])


def assert_same(result, expected):
    np.testing.assert_allclose(result["losses"], expected["losses"], rtol=1e-5)
    np.testing.assert_allclose(result["logits"], expected["logits"], rtol=1e-4, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("meshes", [MESHES, pytest.param([[8, 1, 1], [4, 2, 1]], marks=pytest.mark.long)])
def test_50_steps_have_the_losses_of_one_device_on_every_mesh(one_device, meshes):
    results = json.loads(finish(start("losses", json.dumps(meshes))))
    for (_, student, table), result in zip(meshes, results, strict=True):
        assert_same(result, one_device)
        assert result["table_rows_per_device"] == -(-on_devices.SCHEMA.num_features // table)
        assert result["students_per_device"] == 4 // student


@pytest.mark.slow
def test_whatever_students_share_a_mesh_has_the_losses_of_one_device():
    process = start("variants", "[2, 2, 2]")
    expected = {
        name: on_devices.losses([1, 1, 1], **variant) for name, variant in on_devices.VARIANTS.items()
    }
    results = json.loads(finish(process))
    assert len({result["losses"][-1] for result in results.values()}) == len(on_devices.VARIANTS)
    for name, result in results.items():
        assert_same(result, expected[name])
        assert result["students_per_device"] == 2


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_device(one_device):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        start("losses", "[[2, 2, 2]]", f"localhost:{port},2,{index}", devices=4) for index in range(2)
    ]
    for process in processes:
        (result,) = json.loads(finish(process).splitlines()[-1])
        assert_same(result, one_device)


@pytest.mark.slow
def test_a_run_goes_on_on_another_mesh(tmp_path):
    on_devices.train(tmp_path / "whole", [1, 1, 1])
    finish(start("move", str(tmp_path / "moved"), "[2, 2, 2]", "[2, 1, 4]", "3"))
    whole, moved = (json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "moved"))
    assert moved["mesh"] == {"data": 2, "student": 1, "table": 4}
    assert moved["params"] == whole["params"]
    assert moved["best_epoch"] == whole["best_epoch"]
    for split in ("valid", "test"):
        for name, value in whole[split]["ensemble"].items():
            assert moved[split]["ensemble"][name] == pytest.approx(value, rel=1e-5)
    first, second = (
        [json.loads(line)["train"]["loss"] for line in (tmp_path / name / "metrics.jsonl").open()]
        for name in ("whole", "moved")
    )
    np.testing.assert_allclose(second, first, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "meshes",
    [[[2, 2, 2]], pytest.param([[8, 1, 1], [4, 2, 1], [1, 2, 4]], marks=pytest.mark.long)],
)
def test_rows_on_the_devices_of_a_mesh_are_the_run_that_the_host_feeds(tmp_path, meshes):
    with optimizations(True):  # their bits are compared
        finish(start("residences", str(tmp_path), json.dumps(meshes)))
    for index in range(len(meshes)):
        host, device = (tmp_path / f"{index}_{side}" for side in ("host", "device"))
        assert (host / "metrics.jsonl").read_text() == (device / "metrics.jsonl").read_text()
        ours, theirs = (json.loads((run / "result.json").read_text()) for run in (device, host))
        assert ours["test"] == theirs["test"]


def test_a_mesh_larger_than_the_machine_says_so():
    with pytest.raises(ValueError, match=r"mesh 3 x 2 x 100 needs 600 devices, here are 1"):
        sharding.make_mesh(3, 2, 100)


def test_all_devices_is_what_the_other_axes_leave():
    assert dict(sharding.make_mesh(-1).shape) == {"data": 1, "student": 1, "table": 1}


@pytest.mark.parametrize(
    ("mesh", "ensemble", "message"),
    [
        ({"student": 2}, {}, r"config\.mesh\.student = 2 divides the copies of no student .*mlp: 3"),
        ({"student": 3}, {"stack": "scan"}, r"config\.ensemble\.stack = 'scan' .* use 'vmap' or 'auto'"),
        ({"data": 0}, {}, r"config\.mesh\.data = 0 must be at least 1, or -1"),
        ({"table": 0}, {}, r"config\.mesh\.table = 0 must be at least 1"),
    ],
)
def test_a_mesh_that_the_model_does_not_fit_is_named(tiny_config, mesh, ensemble, message):
    config = tiny_config()
    config["mesh"] |= mesh
    config["ensemble"] |= ensemble
    with pytest.raises(InputError, match=message):
        build.check(Config.from_dict(config))


def test_a_mesh_without_its_devices_is_named(tiny_config):
    config = tiny_config()
    config["mesh"]["data"] = 64
    with pytest.raises(InputError, match=r"config\.mesh: mesh 64 x 1 x 1 needs 64 devices"):
        build.make_mesh(Config.from_dict(config))
