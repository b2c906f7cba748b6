"""What a step needs, against published counts and by hand."""

import pytest

from benchmarks import scale
from benchmarks.scale import Device, Needs

NEEDS = Needs(
    rows=100, features=10, table=1000, network=50, activations=400, lookups=80, exchanged=40, flops=6_000_000
)


def test_needs_of_criteo_are_the_published_model():
    need = scale.needs("criteo", 2)
    assert need.table + need.network == 15_719_154  # the authors' Criteo run with two MLPs
    assert need.lookups == 10_000 * 39 * 16
    # Two FLOPs per weight and sample, three products; biases, BatchNorm and activations are little more.
    weights = 39 * 16 * 400 + 2 * 400 * 400 + 400
    assert need.flops == pytest.approx(6 * 10_000 * 2 * weights, rel=0.02)
    # A hidden unit of a sample leaves its input and output at the least.
    assert need.activations > 2 * 10_000 * 2 * 3 * 400


def test_activations_grow_with_students_and_parameters_with_features():
    two, four = scale.needs("ml1m", 2), scale.needs("ml1m", 4)
    assert four.network == 2 * two.network
    assert two.activations < four.activations < 2 * two.activations
    assert four.table == two.table == 9_751 * 16


def test_seconds_by_hand():
    device = Device("toy", flops=1e6, bandwidth=1e3, memory=1e5, link=1e2, source="")
    assert NEEDS.seconds(device) == {
        "students": max(6_000_000 / 1e6, 4 * 4 * 400 / 1e3),
        "parameters": 4 * (10 * 1050 + 5 * 80) / 1e3,
        "exchange": 0.0,
    }
    assert NEEDS.seconds(device, 2) == {
        "students": pytest.approx(3.2),
        "parameters": pytest.approx(4 * (10 * 550 + 5 * 40) / 1e3),
        "exchange": pytest.approx(4 * (40 + 100) / 2 / 1e2),
    }


def test_predict_takes_as_many_devices_as_hold_it():
    assert NEEDS.bytes_held(1) == 4 * (4 * 1050 + 480)
    for memory, devices in ((20_000, 1), (18_000, 2), (5_000, 8)):
        found = scale.predict(NEEDS, Device("toy", 1e6, 1e3, memory, 1e2, ""))
        assert found["devices"] == devices
        assert found["bytes_per_device"] <= memory
