"""Reading result.json and metrics.jsonl."""

import json

import pytest

from ektf_jax.errors import InputError
from ektf_jax.report import results
from ektf_jax.report.paper import select
from ektf_jax.report.seeds import groups

from .conftest import LATEST, concat, load, result


def test_a_run_is_what_its_config_says(write):
    kinds = {"ecn": {"name": "ecn"}, "final": {"name": "final", "blocks": 2}, "own": {"name": "a.b:Mine"}}
    directory = write(
        result("kdcl", [0.7, 0.8, 0.9, 0.6], kinds=kinds, options={"variant": "naive"}), [0.5, 0.6]
    )
    (run,) = load(directory)
    assert run.kinds == ("ecn", "ecn", "final2b", "Mine")
    assert (run.num_students, run.method, run.options, run.path) == (
        4,
        "kdcl",
        {"variant": "naive", "weight": 1.0, "temperature": 2.0, "divergence": "kl"},
        "000",
    )
    assert [student.auc for student in run.students] == [0.7, 0.8, 0.9, 0.6]
    assert (run.best_student.auc, run.worst_student.auc, run.best_student.logloss) == (0.9, 0.6, 0.32)
    assert run.ensemble.auc == pytest.approx(0.75)
    assert (run.curve, run.best_epoch, run.wall_seconds) == ((0.5, 0.6), 2, 90.0)
    assert run.settings["transfer.kdcl.variant"] == "naive"
    assert not {"seed", "data.path", "train.log_every", "transfer.unused.weight"} & run.settings.keys()


def test_results_from_before_a_key_and_after_it_are_of_the_same_settings(write):
    before, after, rounded = (result("ektf", [0.8, 0.9]) for _ in range(3))
    for made, dtype in ((after, "float32"), (rounded, "bfloat16")):
        made["config"]["ensemble"]["matmul_dtype"] = dtype
        made["config"]["embedding"]["sharing"] = "shared"
        made["config"]["transfer"]["self"] = 1
        made["config"]["mesh"] = {"data": 2, "student": 1, "table": 1}
    for made in (before, after, rounded):
        directory = write(made)
    first, second, third = load(directory)
    assert first.settings == second.settings != third.settings


def test_students_are_compared_in_full(write):
    """One that leaves its arguments out, one that has them, one whose defaults were others when it ran."""
    short, whole, then = (result("ektf", [0.8, 0.9], seed=seed) for seed in (1, 2, 3))
    whole["config"]["ensemble"]["students"]["mlp"] |= {"dropout": 0.1, "batch_norm": True}
    then["students"] = {"mlp": {"name": "mlp", "hidden_units": [4], "dropout": 0.3, "batch_norm": True}}
    for made in (short, whole, then):
        directory = write(made)
    first, second, third = load(directory)
    assert first.settings == second.settings
    assert first.settings["ensemble.students.mlp.dropout"] == 0.1
    assert {key for key in first.settings if first.settings[key] != third.settings[key]} == {
        "ensemble.students.mlp.dropout"
    }


def test_runs_of_other_rows_are_of_other_settings(write):
    """Those from before rows had digests are of the rows of the others, if these are of one set."""
    made = {seed: result("ektf", [0.8, 0.9], seed=seed) for seed in (1, 2, 3)}
    made[2]["dataset"]["arrays"] = {"train/ids.npy": "00", "train/labels.npy": "11"}
    write(made[1])
    first, second = load(write(made[2]))
    assert first.settings == second.settings
    made[3]["dataset"]["arrays"] = {"train/ids.npy": "00", "train/labels.npy": "22"}
    first, second, third = load(write(made[3]))
    assert len({run.settings["rows"] for run in (first, second, third)}) == 3


def test_equal_rows_are_one_setting_however_they_were_encoded(write):
    for seed, encoder in ((1, 1), (2, 2)):
        made = result("ektf", [0.8, 0.9], seed=seed)
        made["dataset"]["source"] = {"encoder": encoder}
        made["dataset"]["arrays"] = {"train/ids.npy": "00", "train/labels.npy": "11"}
        directory = write(made)
    first, second = load(directory)
    assert first.settings == second.settings


@pytest.mark.parametrize(
    ("sharing", "passes", "label"),
    [
        ("own", 1, "EKTF of MLP, a table each"),
        (1, 1, "EKTF of MLP, a table each"),
        (0.25, 1, "EKTF of MLP, 25% own columns"),
        ("shared", 2, "EKTF of MLP, self-transfer"),
        ("own", 2, "EKTF of MLP, a table each, self-transfer"),
        (0.0, 1, "EKTF of MLP"),
    ],
)
def test_tables_of_their_own_and_self_transfer_make_another_ensemble(write, sharing, passes, label):
    made = result("ektf", [0.8, 0.9])
    made["config"]["embedding"]["sharing"] = sharing
    made["config"]["transfer"]["self"] = passes
    write(result("ektf", [0.7, 0.8]))
    other, shared = sorted(load(write(made).parent), key=lambda run: -run.ensemble.auc)
    assert other.label == label
    assert shared.label == "EKTF of MLP"
    # The paper's tables are of those that share.
    assert select.ektf()(shared)
    assert select.ektf()(other) == (label == "EKTF of MLP")


@pytest.mark.parametrize(
    ("key", "value", "label"),
    [
        ("train.ema", 0.9, "single MLP, average of weights 0.9"),
        ("train.init_from", ["runs/a"], "single MLP, from finished runs"),
        ("ensemble.members", "adapters", "single MLP, adapters"),
    ],
)
def test_a_model_alone_says_what_the_papers_has_not(write, key, value, label):
    """And it takes nothing away from the paper's, whatever its seeds."""
    for seed in (1, 2):
        made = result("none", [0.9], seed=seed)
        room, name = key.split(".")
        made["config"][room][name] = value
        write(made)
    *others, papers = sorted(load(write(result("none", [0.8]))), key=lambda run: -run.ensemble.auc)
    assert ({run.label for run in others}, papers.label) == ({label}, "single MLP")
    assert [select.alone("mlp")(run) for run in (*others, papers)] == [False, False, True]
    assert [select.in_overview(run) for run in (*others, papers)] == [False, False, True]
    assert [bool(group.variant) for group in groups([*others, papers])] == [False, False]


@pytest.mark.parametrize(
    ("made", "label"),
    [
        (result("none", [0.8]), "single MLP"),
        (result("ektf", [0.8]), "single MLP"),
        (result("eckd", [0.8]), "ECKD of MLP"),
        (
            result("dagfm", [0.8], kinds={"a": {"name": "dagfm"}}, options={"stage": "finetuning"}),
            "DAGFM (finetuning) of DAGFM-outer",
        ),
        (result("none", [0.8, 0.9], fusion="sum"), "plain sum of MLP"),
        (concat(2, 0.9), "plain concat of MLP"),
        (result("ektf", [0.8, 0.9]), "EKTF of MLP"),
        (result("ektf", [0.8] * 3, kinds=LATEST), "EKTF of PNN, FINAL(1B), ECN"),
        (result("ektf", [0.8] * 2, options={"dml": False}), "EKTF (only KD) of MLP"),
        (result("ektf", [0.8] * 2, options={"kd": False}), "EKTF (only DML) of MLP"),
        (
            result("ektf", [0.8] * 2, options={"examination": False}, fusion="sum"),
            "EKTF (w/o EM, sum) of MLP",
        ),
        (
            result("kdcl", [0.8] * 2, options={"variant": "naive", "divergence": "kl"}),
            "KDCL-Naive (KL) of MLP",
        ),
        (result("mine", [0.8] * 2), "mine of MLP"),
    ],
)
def test_labels(write, made, label):
    assert load(write(made))[0].label == label


def test_synthetic_raw_files_are_a_dataset_of_their_own(write):
    made = result("none", [0.8], dataset="criteo")
    made["dataset"]["source"] = {"synthetic": True}
    write(made)
    directory = write(result("none", [0.8], dataset="criteo"))
    assert [run.dataset for run in load(directory)] == ["criteo", "criteo_synthetic"]


def test_single_models_come_first_then_methods_in_the_papers_order(write):
    for method in ("ektf", "dml", "kd", "none", "mine"):
        write(result(method, [0.8, 0.9]))
    write(result("none", [0.8], kinds={"ecn": {"name": "ecn"}}))
    directory = write(result("none", [0.8], kinds={"afn": {"name": "afn"}}))
    labels = [run.label.split(" of ")[0] for run in load(directory)]
    assert labels == ["single AFN*", "single ECN", "plain mean", "KD", "DML", "EKTF", "mine"]


def test_no_result_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"no result\.json"):
        load(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda made: made.pop("params"),
        lambda made: made["test"]["ensemble"].update(auc=float("nan")),
        lambda made: made["test"]["students"].pop(),
        lambda made: made["valid"]["students"].append({"auc": 0.5, "logloss": 0.5}),
        lambda made: made["test"]["students"][1].update(auc=1.01),
        lambda made: made["valid"]["ensemble"].update(auc=-0.01),
        lambda made: made["test"]["ensemble"].update(logloss=-0.01),
        lambda made: made.update(params=-1),
        lambda made: made.update(params=2**63),
        lambda made: made.update(best_epoch=0),
        lambda made: made.update(best_epoch=made["epochs"] + 1),
        lambda made: made["config"]["transfer"].pop("name"),
        lambda made: made.update(config=[1]),
        lambda made: made["config"]["train"].update(learning_rate=float("nan")),
        lambda made: made["config"]["embedding"].update(sharing="each"),
    ],
)
def test_a_broken_result_is_named(write, spoil):
    made = result("ektf", [0.8, 0.9])
    spoil(made)
    with pytest.raises(InputError, match=r"000/result\.json: not a result"):
        load(write(made))


def test_the_worst_and_the_best_that_a_result_can_have(write):
    made = result("ektf", [0.0, 1.0], 1.0, loss=0)
    made |= {"params": 0, "best_epoch": 1, "epochs": 1}
    (run,) = load(write(made))
    assert ([student.auc for student in run.students], run.ensemble.logloss) == ([0, 1], 0)
    assert (run.parameters, run.best_epoch) == (0, 1)


def test_what_a_result_says_beside_is_read(write):
    made = result("ektf", [0.7, 0.9, 0.8])
    made["test"]["ensemble"]["brier"] = 0.2
    made["valid"]["ensemble"]["brier"] = 0.1
    made["test"]["diversity"], made["valid"]["diversity"] = {"ambiguity": 0.03}, {"ambiguity": 0.01}
    made["embedding_use"] = {"user": {"effective_rank": 3.0}, "item": {"effective_rank": 6.0}}
    made["flops_per_sample"] = 70
    (run,) = load(write(made))
    assert (run.more, run.diversity) == ({"brier": 0.2}, {"ambiguity": 0.03})
    assert (run.effective_rank, run.flops_per_sample, run.samples_per_second) == (4.5, 70.0, 10.0)
    assert run.best_on_validation.auc == 0.9


def test_students_are_chosen_by_validation_and_of_equal_ones_the_first(write):
    made = result("ektf", [0.7, 0.9, 0.8, 0.6])
    for student, auc in zip(made["valid"]["students"], (0.8, 0.5, 0.8, 0.5), strict=True):
        student["auc"] = auc
    (run,) = load(write(made))
    assert (run.best_student.auc, run.worst_student.auc, run.best_on_validation.auc) == (0.7, 0.6, 0.8)


def test_what_cannot_be_read_is_left_out_unless_it_is_all(write):
    directory, said = write({}), []
    with pytest.raises(InputError, match=r"000/result\.json: not a result"):
        results.load(directory, said.append)
    write(result("ektf", [0.8, 0.9]))
    (run,) = results.load(directory, said.append)
    assert run.path == "001"
    assert [line.partition(": ")[0] for line in said] == [str(directory / "000" / "result.json")]


@pytest.mark.parametrize("content", ["{", "[]", '{"config": {}}'])
def test_what_is_no_result_is_named(write, content):
    directory = write({})
    (directory / "000" / "result.json").write_text(content)
    with pytest.raises(InputError, match=r"000/result\.json: not a result"):
        load(directory)


@pytest.mark.parametrize(
    "line", ["{", '{"epoch": 2}', json.dumps({"epoch": 3, "valid": {"ensemble": {"auc": 1}}})]
)
def test_a_broken_line_of_metrics_is_named(write, line):
    directory = write(result("ektf", [0.8, 0.9]), [0.7])
    with (directory / "000" / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(InputError, match=r"000/metrics\.jsonl: line 2"):
        load(directory)


def test_runs_that_this_project_left_can_be_read(tmp_path):
    """Times, device and rows are not in the contract: without them a run is still one."""
    made = result("ektf", [0.8, 0.9])
    for key in ("wall_seconds", "device"):
        del made[key]
    made["dataset"] = {"name": "ml1m"}
    (tmp_path / "result.json").write_text(json.dumps(made))
    (run,) = load(tmp_path)
    assert (run.device, run.rows, run.features, run.curve) == ("unknown", {}, None, ())
