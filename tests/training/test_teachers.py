"""The recipes with teachers, end to end on 2,000 rows: alone, then ECKD; alone, distilled, fine-tuned."""

import contextlib
import copy
import json
import shutil

import jax
import numpy as np
import pytest
from flax import nnx

from ektf_jax import sharding
from ektf_jax.config import Config
from ektf_jax.data import encoded
from ektf_jax.data.loader import Batch
from ektf_jax.ensemble import count_parameters
from ektf_jax.errors import InputError
from ektf_jax.runs import ensembles
from ektf_jax.training import build, compiler, finite, loop, teachers
from ektf_jax.transfer.dagfm import Fixed
from tests.compilation import optimizations
from tests.training.listening import result_of

STUDENTS = {
    "pnn": {"name": "pnn", "hidden_units": (6,)},
    "ecn": {"name": "ecn", "num_cross_layers": 1},
    "crossnetv2": {"name": "crossnetv2", "num_cross_layers": 2},
}
DAGFM = {"dagfm": {"name": "dagfm", "interaction": "outer", "depth": 2}}


@pytest.fixture(scope="module")
def make(tiny_config):
    """Makes the config of one student, by method; `options` are the method's."""

    def config(students, method="none", taught=(), **options):
        made = tiny_config(max_epochs=2)
        made["data"]["batch_size"] = 64  # no short batch: a step compiles once
        made["ensemble"] |= {"num_students": 1, "students": copy.deepcopy(students)}
        made["transfer"] |= {"name": method, "teachers": tuple(taught)}
        made["transfer"][method] |= options
        return made

    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory, make, tiny_config):
    """A directory of finished runs: teachers alone, ECKD of them, a DAGFM distilled and fine-tuned."""
    root = tmp_path_factory.mktemp("runs")
    for label, student in STUDENTS.items():
        loop.train(make({label: student}), root / label)
    mlp = tiny_config()["ensemble"]["students"]
    loop.train(make(mlp, "eckd", ["../pnn", "../ecn"]), root / "eckd")
    loop.train(make(DAGFM, "dagfm", ["../crossnetv2"]), root / "distilled")
    loop.train(make(DAGFM, "dagfm", ["../distilled"], stage="finetuning"), root / "finetuned")
    return root


def best(runs, name):
    """The model of a finished run, and its data."""
    data = loop.dataset(Config.from_dict(json.loads((runs / name / "config.json").read_text())), runs / name)
    return teachers.load(runs / name, encoded.open_schema(data)), data


@jax.jit
def predict(model, ids):
    return model(ids)


def table(model):
    return np.asarray(model.embedding.table[...])


def test_eckd_learns_gate_and_hints_of_the_teachers_that_have_a_hidden_state(runs):
    model, _ = best(runs, "eckd")
    assert model.hint_sizes == (6, 0)
    assert [layer.kernel.shape for layer in model.maps] == [(8, 6)]
    untrained = nnx.Param(np.zeros(2))
    assert np.all(model.gate_scale[...] != untrained[...])
    assert np.all(model.gate_bias[...] != 0)


def test_eckds_result_counts_what_predicts_and_is_evaluated_alone(runs):
    result = result_of(runs / "eckd")
    mlp_alone = best(runs, "eckd")[0].ensemble
    assert result["params"] == sum(leaf.size for leaf in jax.tree.leaves(nnx.state(mlp_alone, nnx.Param)))
    assert len(result["test"]["students"]) == 1
    assert loop.evaluate(runs / "eckd", "test") == result["test"]


def test_eckd_stops_by_the_distillation_loss_on_validation_data(runs):
    lines = [json.loads(line) for line in (runs / "eckd" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["valid"]["distillation_loss"] for line in lines]
    assert result_of(runs / "eckd")["best_epoch"] == 1 + int(np.argmin(losses))

    model, data = best(runs, "eckd")
    valid = encoded.open_split(data, "valid")
    logits = [np.asarray(predict(best(runs, name)[0], valid.ids).ensemble, float) for name in ("pnn", "ecn")]
    student = np.asarray(predict(model, valid.ids).students, float)[0]
    scores = [
        scale * z + bias
        for scale, bias, z in zip(
            np.asarray(model.gate_scale[...], float),
            np.asarray(model.gate_bias[...], float),
            logits,
            strict=True,
        )
    ]
    weights = np.exp(scores) / np.exp(scores).sum(axis=0)
    p = 1 / (1 + np.exp(-student))
    soft = [-(t * np.log(p) + (1 - t) * np.log(1 - p)) for t in (1 / (1 + np.exp(-z)) for z in logits)]
    assert min(losses) == pytest.approx(np.mean(np.sum(weights * soft, axis=0)), rel=1e-5)


def test_a_distilled_dagfm_keeps_its_teachers_embeddings_and_comes_near_its_logits(runs, make, tmp_path):
    teacher, data = best(runs, "crossnetv2")
    student, _ = best(runs, "distilled")
    np.testing.assert_array_equal(table(student), table(teacher))
    assert isinstance(student.embedding.table, Fixed)

    config = make(DAGFM, "dagfm", ["../crossnetv2"])
    start, _ = teachers.make_model(
        Config.from_dict(config),
        runs / "distilled",
        encoded.open_schema(data),
        jax.random.key(0),
        sharding.make_mesh(),
    )
    rows = encoded.open_split(data, "test").ids
    wanted = np.asarray(predict(teacher, rows).ensemble)
    gaps = [np.mean((np.asarray(predict(model, rows).ensemble) - wanted) ** 2) for model in (start, student)]
    assert gaps[1] < gaps[0]


def test_the_average_of_a_distilled_dagfm_keeps_its_teachers_embeddings_too(runs, make):
    config = make(DAGFM, "dagfm", ["../crossnetv2"])
    config["train"]["ema"] = 0.9
    loop.train(config, runs / "averaged")
    np.testing.assert_array_equal(table(best(runs, "averaged")[0]), table(best(runs, "crossnetv2")[0]))


def test_finetuning_goes_on_from_the_distilled_student_and_trains_all_of_it(runs, make):
    distilled, data = best(runs, "distilled")
    config = make(DAGFM, "dagfm", ["../distilled"], stage="finetuning")
    start, teach = teachers.make_model(
        Config.from_dict(config),
        runs / "new",
        encoded.open_schema(data),
        jax.random.key(0),
        sharding.make_mesh(),
    )
    assert teach is None
    weights = [nnx.to_pure_dict(nnx.state(model)) for model in (start, distilled)]
    jax.tree.map(np.testing.assert_array_equal, *weights)
    finetuned, _ = best(runs, "finetuned")
    assert isinstance(finetuned.embedding.table, nnx.Param)
    for new, old in zip(
        jax.tree.leaves(nnx.state(finetuned)), jax.tree.leaves(nnx.state(start)), strict=True
    ):
        assert np.any(new != old)


def test_a_distilled_run_is_a_member_of_an_ensemble_of_runs(runs):
    """Whose model has what was held fixed as parameters, and so has the run's own where it predicts."""
    ensembles.make([runs / "distilled", runs / "crossnetv2"], runs / "both", how="all")
    schema = encoded.open_schema(runs / "distilled" / "data")
    both, distilled = (teachers.predictor(runs / name, schema)[0] for name in ("both", "distilled"))
    ids = encoded.open_split(runs / "distilled" / "data", "test").ids
    np.testing.assert_array_equal(predict(both, ids).students[0], predict(distilled, ids).students[0])
    assert count_parameters(distilled) == result_of(runs / "distilled")["params"]


class Interrupted(Exception):
    pass


# Fine-tuning differs from any other run where it starts only.
@pytest.mark.parametrize("name", ["eckd", "distilled"])
def test_an_interrupted_run_goes_on_to_the_same_bits(runs, name, monkeypatch):
    config = json.loads((runs / name / "config.json").read_text())
    config["transfer"]["teachers"] = tuple(config["transfer"]["teachers"])
    workdir = runs / f"{name}_interrupted"
    real, steps = finite.step_terms, []

    def dying(*args):
        steps.append(args)
        if len(steps) == 12:  # of step 49: between a checkpoint within the second epoch and its end
            raise Interrupted
        return real(*args)

    monkeypatch.setattr(finite, "step_terms", dying)
    with pytest.raises(Interrupted):
        loop.train(config, workdir)
    monkeypatch.undo()
    assert (workdir / "checkpoints" / "latest" / "40").exists()
    assert not (workdir / "checkpoints" / "latest" / "50").exists()
    assert not (workdir / "result.json").exists()
    result, expected = loop.train(config, workdir), result_of(runs / name)
    for key in ("valid", "test", "best_epoch", "epochs", "params"):
        assert result[key] == expected[key]
    assert (workdir / "metrics.jsonl").read_text() == (runs / name / "metrics.jsonl").read_text()
    shutil.rmtree(workdir)


def on_the_devices(runs, name):
    config = json.loads((runs / name / "config.json").read_text())
    config["transfer"]["teachers"] = tuple(config["transfer"]["teachers"])
    config["data"]["residence"] = "device"
    return loop.train(config, runs / f"{name}_on_the_devices")


@pytest.mark.parametrize("name", ["distilled", pytest.param("finetuned", marks=pytest.mark.long)])
def test_rows_on_the_devices_are_the_run_that_the_host_feeds(runs, name):
    """But for rounding, as its teachers predict in every step: some processors have the same bits."""
    result, expected = on_the_devices(runs, name), result_of(runs / name)
    for key in ("best_epoch", "epochs", "params"):
        assert result[key] == expected[key]
    for split in ("valid", "test"):
        assert result[split]["ensemble"] == pytest.approx(expected[split]["ensemble"], rel=1e-6)


def test_teachers_in_a_program_of_many_steps_say_the_same(runs, make, tiny_config, monkeypatch):
    """To the same bits where they have the compiler's options of the step, which a CPU gives that alone."""
    monkeypatch.setattr(compiler, "options", lambda _: {})
    config = make(tiny_config()["ensemble"]["students"], "eckd", ["../pnn", "../ecn"])
    with optimizations(True):
        expected = loop.train(config, runs / "eckd_without_options")
        result = on_the_devices(runs, "eckd_without_options")
    for key in ("valid", "test", "best_epoch"):
        assert result[key] == expected[key]
    monkeypatch.undo()
    near = on_the_devices(runs, "eckd")["test"]["ensemble"]
    assert near == pytest.approx(result_of(runs / "eckd")["test"]["ensemble"], rel=1e-6)


def refused(config, workdir, match):
    with pytest.raises(InputError, match=match):
        loop.train(config, workdir)
    assert not workdir.exists(), "nothing half-written"


def test_teachers_that_are_not_there_are_refused_before_anything_is_written(runs, make):
    mlp = {"mlp": {"name": "mlp", "hidden_units": (8,)}}
    refused(make(mlp, "eckd", ["../nobody"]), runs / "new", r"nobody/result\.json: missing")
    with contextlib.chdir(runs):
        refused(
            make(mlp, "eckd", ["pnn"]), runs / "new", r"'pnn' is relative to the run's .*write '\.\./pnn'"
        )
    refused(make(mlp, "eckd"), runs / "new", r"config\.transfer\.teachers is empty")
    refused(make(mlp, "eckd", ["", "../pnn"]), runs / "new", "must be names of directories")
    refused(make(mlp, "none", ["../pnn"]), runs / "new", "'none' has no teachers")
    refused(make(DAGFM, "dagfm", ["../pnn", "../ecn"]), runs / "new", "must be one directory for 'dagfm'")


def test_a_teacher_of_other_data_is_refused_before_anything_is_written(runs, make):
    config = make({"mlp": {"name": "mlp", "hidden_units": (8,)}}, "eckd", ["../pnn"])
    config["data"]["synthetic"]["values"] = (40, 20, 6)
    loop.train(make({"pnn": STUDENTS["pnn"]}) | {"data": config["data"]}, runs / "other")
    own = config["data"] | {"synthetic": {}, "path": str(runs / "other" / "data")}
    refused(config | {"data": own}, runs / "new", r"pnn/dataset\.json: schema_sha256 = '\w+' is not that of")
    # Generated data are known only when they are there.
    with pytest.raises(InputError, match=r"pnn/dataset\.json: schema_sha256"):
        loop.train(config, runs / "generated")
    shutil.rmtree(runs / "other")


@pytest.mark.parametrize(
    ("students", "method", "taught", "options", "match"),
    [
        ({"ecn": STUDENTS["ecn"]}, "eckd", ["../pnn"], {}, r"hint_weight = 1\.0, but hints need a hidden"),
        ({"pnn": STUDENTS["pnn"]}, "eckd", ["../ecn"], {}, r"hint_weight = 1\.0, but hints need a hidden"),
        (
            {"fm": {"name": "fm", "wide": "ids"}},
            "dagfm",
            ["../crossnetv2"],
            {},
            "config.embedding: 4 shared columns of the table and 1 of the students' own must be 4 and none",
        ),
        (
            {"dagfm": DAGFM["dagfm"] | {"depth": 1}},
            "dagfm",
            ["../distilled"],
            {"stage": "finetuning"},
            "distilled: not a model of this run's shape",
        ),
    ],
)
def test_teachers_that_do_not_suit_the_run_are_refused(runs, make, students, method, taught, options, match):
    _, data = best(runs, "pnn")
    config = make(students, method, taught, **options)
    with pytest.raises(InputError, match=match):
        teachers.make_model(
            Config.from_dict(config),
            runs / "new",
            encoded.open_schema(data),
            jax.random.key(0),
            sharding.make_mesh(),
        )


def test_hints_are_refused_of_several_passes(runs, make):
    _, data = best(runs, "pnn")
    config = make({"pnn": STUDENTS["pnn"]}, "eckd", ["../pnn"])
    config["transfer"]["self"] = 2
    given = runs / "new", encoded.open_schema(data), jax.random.key(0), sharding.make_mesh()
    with pytest.raises(InputError, match=r"config\.transfer\.self = 2, but .* hints are of one pass"):
        teachers.make_model(Config.from_dict(config), *given)
    config["transfer"]["eckd"] = {"hint_weight": 0.0}
    teachers.make_model(Config.from_dict(config), *given)


def test_without_hints_any_student_learns_from_any_teachers(runs, make):
    _, data = best(runs, "pnn")
    config = make({"ecn": STUDENTS["ecn"]}, "eckd", ["../pnn", "../eckd"], hint_weight=0.0)
    build.check(Config.from_dict(config))
    _, teach = teachers.make_model(
        Config.from_dict(config),
        runs / "new",
        encoded.open_schema(data),
        jax.random.key(0),
        sharding.make_mesh(),
    )
    split = encoded.open_split(data, "test")
    batch = Batch(split.ids[:50], split.labels[:50])
    outputs = teach(batch)
    assert outputs.hidden == (None, None)
    expected = [predict(best(runs, name)[0], batch.ids).ensemble for name in ("pnn", "eckd")]
    np.testing.assert_allclose(outputs.logits, expected, rtol=1e-5)


def test_two_students_are_refused(runs, make):
    config = make({"mlp": {"name": "mlp", "hidden_units": (8,)}}, "eckd", ["../pnn"])
    config["ensemble"]["num_students"] = 2
    refused(config, runs / "new", r"config\.transfer\.eckd: hint_weight = 1\.0 is for one student, not 2")


def test_finetuning_goes_on_from_its_own_kind_of_student_alone(runs, make):
    """Weights of equal shapes can mean another thing: here, with half of the units dropped."""
    mlp = {"mlp": {"name": "mlp", "hidden_units": (8,)}}
    loop.train(make(mlp, "dagfm", ["../crossnetv2"]), runs / "distilled_mlp")
    schema = encoded.open_schema(runs / "distilled_mlp" / "data")
    other = {"mlp": mlp["mlp"] | {"dropout": 0.5}}
    for student, match in (
        (mlp, None),
        (other, r"distilled_mlp: its student .*\(dropout: 0\.1 there, 0\.5 now\)"),
    ):
        config = make(student, "dagfm", ["../distilled_mlp"], stage="finetuning")
        with pytest.raises(InputError, match=match) if match else contextlib.nullcontext():
            teachers.make_model(
                Config.from_dict(config), runs / "new", schema, jax.random.key(0), sharding.make_mesh()
            )
    shutil.rmtree(runs / "distilled_mlp")
