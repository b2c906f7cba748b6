"""The ONNX program gives what the JAX program and the run give, for every student and for mixtures of them.

Needs the extra `onnx`, which the other tests do without: `make test-onnx`.
"""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from ektf_jax.bundle import export as exporting
from ektf_jax.bundle import load, reader
from ektf_jax.config import Config
from ektf_jax.data import encoded, encoder
from ektf_jax.runs import load_run
from ektf_jax.training import build, loop
from tests.bundle import shop, test_attention_fields, test_dense_fields, test_pooling, test_pretrained_fields
from tests.students.test_registry import STUDENTS

pytestmark = pytest.mark.slow
pytest.importorskip("jax2onnx")
pytest.importorskip("onnxruntime")

COUNTS = (1, 7, 33, 5000)
LATEST = ("pnn", "final", "ecn")
# AFN multiplies its inputs as sums of logarithms, and a LayerNorm of a few units divides by their spread,
# next to zero in some rows: float32 itself is 3e-6 from float64 there.
CLOSE, CLOSE_OF = 1e-6, {"afn": 1e-4, "masknet serial": 1e-5}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("shop") / "data"
    shop.prepare(path)
    return path


@pytest.fixture(scope="module")
def raw():
    """Rows with values that are missing, and others that the dataset does not know."""
    rows = shop.rows(5000, 7).drop("click")
    assert rows["price"].null_count() > 0
    assert rows["user"].to_numpy().max() > shop.rows(900, 0)["user"].to_numpy().max()
    return rows


def config(data, labels, students=None):
    found = shop.config(data)
    found["ensemble"] |= {
        "num_students": students or len(labels),
        "students": {label: {"name": STUDENTS[label][0], **STUDENTS[label][1]} for label in labels},
    }
    return found


def close(label):
    return CLOSE_OF.get(label.removesuffix(" with its own embedding"), CLOSE)


@pytest.mark.parametrize("label", STUDENTS)
def test_every_student_is_the_same_as_onnx(data, raw, label, tmp_path):
    schema = encoded.open_schema(data)
    model = build.make_predictor(Config.from_dict(config(data, [label], 2)), schema, jax.random.key(0))
    moved(model)
    exporting.write_program(model, True, schema.num_slots, tmp_path, with_onnx=True)
    ids = encoder.of_dataset(data).frame(raw).ids
    expected = nnx.jit(lambda model, ids: model(ids))(model, ids)
    expected = np.concatenate([expected.students, expected.ensemble[None]])
    assert np.ptp(expected) > 0.1
    for runtime in ("jax", "onnx"):
        run = reader.open_program(tmp_path, runtime, True)
        for count in COUNTS:
            found = run(ids[:count])
            assert found.shape == (3, count)
            assert found.dtype == np.float32
            np.testing.assert_allclose(
                sigmoid(found), sigmoid(expected[:, :count]), atol=close(label), rtol=0, err_msg=runtime
            )


@pytest.mark.parametrize(
    ("labels", "students"),
    [(["mlp"], 4), (LATEST, 3), (list(STUDENTS), len(STUDENTS))],
    ids=["a group of 4", "EKTF_Latest", "a mixture of all"],
)
def test_a_run_is_its_bundle_is_its_onnx_bundle(data, raw, labels, students, tmp_path):
    loop.train(config(data, labels, students), tmp_path / "run")
    exporting.export(tmp_path / "run", tmp_path / "bundle", with_onnx=True)
    run = load_run(tmp_path / "run")
    bundles = [load(tmp_path / "bundle", runtime=runtime) for runtime in ("jax", "onnx")]
    for count in COUNTS:
        expected = run.predict(raw[:count])
        for bundle in bundles:
            found = bundle.predict(raw[:count])
            np.testing.assert_allclose(found["ensemble"], expected["ensemble"], atol=CLOSE, rtol=0)
            for k, (ours, theirs) in enumerate(zip(found["students"], expected["students"], strict=True)):
                np.testing.assert_allclose(ours, theirs, atol=close(labels[k % len(labels)]), rtol=0)


def test_sums_and_maxima_of_sequences_are_the_same_as_onnx(tmp_path):
    schema = test_pooling.prepare(tmp_path / "data")
    model = build.make_predictor(
        Config.from_dict(config(tmp_path / "data", ["mlp", "deepfm"], 2)), schema, jax.random.key(0)
    )
    as_onnx(model, encoder.of_dataset(tmp_path / "data").frame(test_pooling.rows(5000, 7)).ids, tmp_path)


@pytest.mark.parametrize("sharing", ["shared", "own", 0.5])
def test_attention_is_the_same_as_onnx(sharing, tmp_path):
    schema = test_attention_fields.prepare(tmp_path / "data")
    settings = config(tmp_path / "data", ["mlp", "deepfm"], 3)
    settings["embedding"]["sharing"] = sharing
    model = build.make_predictor(Config.from_dict(settings), schema, jax.random.key(0))
    as_onnx(
        model, encoder.of_dataset(tmp_path / "data").frame(test_attention_fields.rows(5000, 7)).ids, tmp_path
    )


def test_pretrained_vectors_are_the_same_as_onnx(tmp_path):
    schema = test_pretrained_fields.prepare(tmp_path / "data")
    settings = config(tmp_path / "data", ["mlp", "deepfm"], 3)
    model = build.make_predictor(Config.from_dict(settings), schema, jax.random.key(0))
    as_onnx(model, encoder.of_dataset(tmp_path / "data").frame(shop.rows(5000, 7)).ids, tmp_path)


def test_numbers_are_a_second_input_of_the_graph(tmp_path):
    schema = test_dense_fields.prepare(tmp_path / "data")
    settings = Config.from_dict(test_dense_fields.config(tmp_path / "data"))
    model = build.make_predictor(settings, schema, jax.random.key(0))
    moved(model)
    slots, dense = schema.num_slots, schema.num_dense
    exporting.write_program(model, True, slots, tmp_path, dense=dense, with_onnx=True)
    found = encoder.of_dataset(tmp_path / "data").frame(test_dense_fields.rows(5000, 7))
    assert found.dense is not None
    expected = nnx.jit(lambda model, ids, dense: model(ids, dense=dense))(model, found.ids, found.dense)
    for count in COUNTS:
        logits = reader.open_program(tmp_path, "onnx", True)(found.ids[:count], found.dense[:count])
        assert logits.shape == (4, count)
        np.testing.assert_allclose(
            sigmoid(logits[:-1]), sigmoid(expected.students[:, :count]), atol=CLOSE, rtol=0
        )


def test_the_graph_is_what_the_page_has_triton_load(data, tmp_path):
    import onnxruntime

    schema = encoded.open_schema(data)
    model = build.make_predictor(Config.from_dict(config(data, ["mlp"], 3)), schema, jax.random.key(0))
    exporting.write_program(model, True, schema.num_slots, tmp_path, with_onnx=True)
    session = onnxruntime.InferenceSession(tmp_path / reader.ONNX)
    types = {"tensor(int32)": "TYPE_INT32", "tensor(float)": "TYPE_FP32"}
    page = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    for kind, parts in (("input", session.get_inputs()), ("output", session.get_outputs())):
        (part,) = parts
        dims = ", ".join(str(-1 if isinstance(size, str) else size) for size in part.shape)
        line = f'{kind} [ {{ name: "{part.name}", data_type: {types[part.type]}, dims: [ {dims} ] }} ]'
        assert line in page


def test_an_onnx_bundle_is_ready_in_a_second(data, tmp_path):
    """Of the processor's time: others may be running."""
    loop.train(config(data, ["mlp"], 2), tmp_path / "run")
    exporting.export(tmp_path / "run", tmp_path / "bundle", with_onnx=True)
    code = (
        "import sys, time; from ektf_jax.bundle import load; load(sys.argv[1]);"
        "print(time.process_time(), 'jax' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "bundle")]
    seconds, with_jax = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert float(seconds) < 1
    assert with_jax == "False"


def as_onnx(model, ids, directory):
    """Students predict as their graph does, of a model with other values than the initial ones."""
    moved(model)
    exporting.write_program(model, True, ids.shape[1], directory, with_onnx=True)
    expected = nnx.jit(lambda model, ids: model(ids))(model, ids)
    for count in COUNTS:
        found = reader.open_program(directory, "onnx", True)(ids[:count])
        np.testing.assert_allclose(
            sigmoid(found[:-1]), sigmoid(expected.students[:, :count]), atol=CLOSE, rtol=0
        )


def moved(model):
    """Other values than the initial ones in all weights and statistics."""
    rng = np.random.default_rng(1)

    def move(path, leaf):
        if jax.tree_util.keystr(path, simple=True, separator="/").endswith("var"):
            return leaf * rng.uniform(0.5, 2, leaf.shape).astype(leaf.dtype)
        return leaf + rng.normal(size=leaf.shape, scale=0.1).astype(leaf.dtype)

    state = nnx.to_pure_dict(nnx.state(model))
    nnx.update(model, jax.tree_util.tree_map_with_path(move, state))


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
