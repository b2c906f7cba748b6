"""The study: what a kill, other workers and failures leave of it. A stand-in for the loop trains."""

import dataclasses
import json
import math
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ektf_jax.config import Config
from ektf_jax.data import synthetic
from ektf_jax.errors import InputError
from ektf_jax.files import write_json
from ektf_jax.result import Result
from ektf_jax.runs import journal, space, sweep, tune
from ektf_jax.search import SearchResult
from ektf_jax.training import stopping
from ektf_jax.training.identity import identity

SPACE = """
train.learning_rate: {low: 1e-4, high: 1e-1, log: true}
embedding.l2: {low: 0, high: 0.01, step: 0.002}
ensemble.students.*.hidden_units: {choices: [[8], [16], [8, 8]]}
ensemble.num_students: {low: 1, high: 4}
"""


@pytest.fixture
def config(tiny_config):
    return Config.from_dict(tiny_config())


@pytest.fixture
def given(tmp_path, config):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE, encoding="utf-8")
    return space.read(path, config)


def silent(line):
    del line


def quality(config):
    """An AUC with one maximum, at a rate of 3e-3 and two students; it is the same whenever it is asked."""
    rate = (math.log10(config.train.learning_rate) + 2.5) ** 2
    students = (config.ensemble.num_students - 2) ** 2
    return 0.8 - 0.05 * rate - 0.01 * students - config.embedding.l2 + 1e-6 * (config.seed % 7)


def result_of(config):
    """A result.json as far as the study reads it. The better on validation data the worse on test data."""
    auc = quality(config)
    metrics = {"auc": auc, "logloss": 0.5}
    return {
        "config": config.to_dict(),
        "best_epoch": 4,
        "valid": {"ensemble": metrics, "students": []},
        "test": {"ensemble": metrics | {"auc": 1 - auc}, "students": []},
        "dataset": {"source": {}},
    }


def train(config, workdir, listeners):
    """Four epochs of a run, whose AUC rises to its quality."""
    workdir.mkdir(parents=True, exist_ok=True)
    for epoch in range(1, 5):
        told = {"ensemble": {"auc": quality(config) - 0.01 * (4 - epoch)}}
        for listener in listeners:
            listener.evaluated(SimpleNamespace(epoch=epoch), {}, told, {})
    write_json(workdir / "result.json", result_of(config))
    return result_of(config)


def searched(config, given, directory, trials, train=train):
    search = tune.open_search(config, given, directory)
    tune.work(search, trials, train, report=silent)
    return search


def test_a_seed_gives_the_same_trials_and_another_gives_others(tmp_path, config, given):
    once, again = (tune.trials_of(searched(config, given, tmp_path / name, 16)) for name in ("a", "b"))
    assert once == again
    assert [trial.number for trial in once] == list(range(16))
    other = Config.from_dict(config.to_dict() | {"seed": 1})
    assert tune.trials_of(searched(other, given, tmp_path / "c", 2)) != once[:2]


def test_the_first_trial_has_the_configs_own_settings(tmp_path, config, given):
    nested = config.to_dict()
    nested["embedding"]["l2"] = 0.004  # a step of the space
    config = Config.from_dict(nested)
    first, second = tune.trials_of(searched(config, given, tmp_path / "a", 2))
    assert first.settings == {
        "train.learning_rate": config.train.learning_rate,
        "embedding.l2": 0.004,
        "ensemble.students.*.hidden_units": [8],
        "ensemble.num_students": 3,
    }
    assert first.settings != second.settings
    # Where the space does not have them, it is drawn.
    narrow = given | {"ensemble.num_students": space.Axis(("ensemble", "num_students"), 1, 2)}
    (drawn,) = tune.trials_of(searched(config, narrow, tmp_path / "b", 1))
    assert drawn.settings["ensemble.num_students"] in (1, 2)
    assert drawn.settings["train.learning_rate"] != config.train.learning_rate


def test_what_came_of_a_search_is_read_back(tmp_path, config, given):
    search = searched(config, given, tmp_path / "a", 8)
    found = tune.result_of(search, tune.finals(search, 2, 2, train, report=silent))
    assert found.own is None  # its L2 is no step of the space
    assert found.trials[found.winner.number].auc in found.winner.aucs.values()
    found.write(tmp_path / "a")
    again = SearchResult.read(tmp_path / "a")
    assert dataclasses.replace(again, config=config) == found
    assert identity(again.config) == identity(config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 2}, "format = 2 is of a newer version, this one reads up to 1"),
        ({"finalists": []}, "has no trial, no finalist or none of its runs"),
        ({"trials": [{"number": 0}]}, r"trials\[0\].state is missing"),
        ({"own": "0"}, "own is '0', which it cannot be"),
        ({"own": 1}, "own is 1, no number of its 1 trials"),
        ({"own": -1}, "own is -1, no number"),
        ({"importances": {"embedding.l2": []}}, r"\[\] is no number from 0 to 1"),
        ({"finalists": [{"number": 0, "settings": {}, "aucs": {"x": 0.5}, "runs": {}}]}, "'x'"),
        ({"finalists": [{"number": 0, "settings": {}, "aucs": {"1": "1"}, "runs": {}}]}, "'1' is no number"),
        ({"finalists": [{"number": 0, "settings": {}, "aucs": {}, "runs": {"1": 5}}]}, "5 is no text"),
        ({"finalists": [{"number": 0, "settings": {}, "aucs": {}, "runs": {}}]}, "that of its trial {'train"),
        ({"finalists": [{"number": 1, "settings": {}, "aucs": {}, "runs": {}}]}, "that of none of 1 trials"),
        ({"config": {"x": 1}}, "x"),
    ],
)
def test_a_broken_search_json_is_said(tmp_path, config, given, change, said):
    search = searched(config, given, tmp_path / "a", 1)
    tune.result_of(search, tune.finals(search, 1, 1, train)).write(tmp_path / "a")
    path = tmp_path / "a" / "search.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=said) as error:
        SearchResult.read(tmp_path / "a")
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("number", 5, r"trials\[1\]\.number is 5, not 1"),
        ("state", "complet", r"trials\[1\]\.state is 'complet', none of complete, pruned"),
        ("auc", 7, "7 is no number from 0 to 1"),
        ("auc", None, r"trials\[1\] is complete without an auc"),
        ("settings", {}, r"trials\[1\]\.settings has none, and trials\[0\] train\.learning_rate"),
        ("by_epoch", {"1": True}, "True is no number"),
    ],
)
def test_a_trial_that_cannot_be_is_said(tmp_path, config, given, key, value, said):
    search = searched(config, given, tmp_path / "a", 2)
    tune.result_of(search, tune.finals(search, 1, 1, train)).write(tmp_path / "a")
    path = tmp_path / "a" / "search.json"
    document = json.loads(path.read_text())
    document["trials"][1][key] = value
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=said) as error:
        SearchResult.read(tmp_path / "a")
    assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"op_code":6', '"op_code":', r":\d+: is not JSON"),
        ('"op_code":6', '"op_code":66', r": is no journal of a search \("),
        ('{"op_code":0', "[1]\n{", ":1: is not an object"),
        ('"directions":[2]', '"directions":[1]', "does not maximize"),
        ('"intermediate_value":0.', '"intermediate_value":7', r"trial 0 has AUC 7\d+ after epoch 1"),
        ('"intermediate_value":0.', '"intermediate_value":"",".":', "trial 0 has AUC '' after epoch 1"),
        ('"values":[0.', '"values":[0.1', "trial 0 has AUC 0.1"),
        ('\\"log\\": true', '\\"log\\": []', r"trial 0 has not the settings of study\.json's space"),
        (
            '"train.learning_rate":0.',
            '"train.learning_rate":-0.',
            r"trial 0: config\.train\.learning_rate = -0",
        ),
        ('"state":1,"values"', '"state":3,"values"', "trial 0 is fail, but its run has a result"),
        (
            '"train.learning_rate":0.0',
            '"train.learning_rate":0.00',
            "trial 0 has other settings than its run .*train.learning_rate",
        ),
        ("train.learning_rate", "train.rate", r"trial 0 has not the settings of study\.json's space"),
    ],
)
def test_a_damaged_journal_is_said(tmp_path, config, given, before, after, said):
    searched(config, given, tmp_path / "a", 2)
    path = tmp_path / "a" / "study.journal"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))
    with pytest.raises(InputError, match=said) as error:
        tune.open_search(config, given, tmp_path / "a")
    assert str(error.value).startswith(str(path))
    path.write_text(text)
    tune.open_search(config, given, tmp_path / "a")


def test_a_study_json_whose_method_has_no_options_to_read_is_said(tmp_path, config, given):
    tune.open_search(config, given, tmp_path / "a")
    path = tmp_path / "a" / "study.json"
    document = json.loads(path.read_text())
    document["config"]["transfer"][config.transfer.name] = 5
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"study\.json: config\.transfer\.\w+ = 5 must be a group of keys"):
        tune.open_search(config, given, tmp_path / "a")


def test_the_search_finds_what_is_good_and_prunes_what_is_not(tmp_path, config, given):
    search = searched(config, given, tmp_path / "out", 40)
    trials = tune.trials_of(search)
    best = tune.ranked(trials)[0]
    assert best.auc == pytest.approx(0.8, abs=0.01)
    assert best.auc == max(trial.auc or 0.0 for trial in trials)
    states = [trial.state for trial in trials]
    assert set(states) == {"complete", "pruned"}
    assert states[:5] == ["complete"] * 5  # without a median there is nothing to be worse than
    for trial in trials:
        assert list(trial.by_epoch) == list(range(1, len(trial.by_epoch) + 1))
        assert (len(trial.by_epoch) < 4) == (trial.state == "pruned") or len(trial.by_epoch) == 4
        assert len(trial.by_epoch) >= 2  # none is pruned by its first epoch
        assert (tmp_path / "out" / search.name(trial.number)).is_dir()
    # A median, computed anew: pruned at an epoch where its best is below that of the complete trials before.
    for trial in (trial for trial in trials if trial.state == "pruned"):
        end = len(trial.by_epoch)
        before = [one.by_epoch[end] for one in trials[: trial.number] if one.state == "complete"]
        assert max(trial.by_epoch.values()) < np.median(before)


def test_settings_are_what_a_space_file_would_have(config, given):
    params = {
        "train.learning_rate": 0.1,
        "embedding.l2": math.nextafter(0.006, 1),
        "ensemble.students.*.hidden_units": "[8, 8]",
        "ensemble.num_students": 2,
    }
    assert list(tune.settings_of(given, params).values()) == [0.1, 0.006, [8, 8], 2]


def test_trials_are_what_one_study_has_in_all(tmp_path, config, given):
    """More are added to those that are there, as if they had been asked for at once; fewer change nothing."""
    searched(config, given, tmp_path / "a", 4)
    longer = tune.trials_of(searched(config, given, tmp_path / "a", 12))
    assert longer == tune.trials_of(searched(config, given, tmp_path / "b", 12))
    assert tune.trials_of(searched(config, given, tmp_path / "a", 3)) == longer


class Killed(BaseException):
    """As SIGKILL: nothing of ours catches it."""


def killed_at(monkeypatch, write, *, torn=None):
    """Have the journal kill the process at its write of a number, instead of it or after a part of it."""
    backend, count = journal.JournalFileBackend, iter(range(10**6))
    append = backend.append_logs

    def dying(self, logs):
        if next(count) == write:
            if torn is not None:
                append(self, logs)
                with Path(self._file_path).open("rb+") as file:
                    end = file.seek(0, 2)
                    file.truncate(end - torn)
            raise Killed
        append(self, logs)

    monkeypatch.setattr(backend, "append_logs", dying)
    return lambda: monkeypatch.setattr(backend, "append_logs", append)


@pytest.mark.parametrize("torn", [None, 20, *(pytest.param(n, marks=pytest.mark.long) for n in (0, 1))])
def test_a_kill_at_any_write_loses_and_repeats_no_trial(tmp_path, config, given, monkeypatch, torn):
    """Before it, after it, or within it: the study is in the end what it is without a kill."""
    whole = searched(config, given, tmp_path / "whole", 2)
    expected = tune.trials_of(whole)
    writes = len((tmp_path / "whole" / "study.journal").read_text().splitlines())
    assert writes > 10
    for write in range(writes):
        started = []

        def counting(config, workdir, listeners, started=started):
            started.append((workdir.name, config))
            return train(config, workdir, listeners)

        directory = tmp_path / f"killed{write}"
        mend = killed_at(monkeypatch, write, torn=torn)
        with pytest.raises(Killed):
            searched(config, given, directory, 2, counting)
        mend()
        assert tune.trials_of(searched(config, given, directory, 2, counting)) == expected
        # The one that was running went on with its settings; no other was trained twice.
        assert len(started) <= 3
        assert len({(name, repr(config)) for name, config in started}) == 2


def test_a_kill_in_training_goes_on_with_the_same_settings(tmp_path, config, given):
    expected = tune.trials_of(searched(config, given, tmp_path / "whole", 4))
    seen = []

    def dying(config, workdir, listeners):
        seen.append(config)
        if len(seen) == 3:
            listeners[0].evaluated(
                SimpleNamespace(epoch=1), {}, {"ensemble": {"auc": quality(config) - 0.03}}, {}
            )
            raise Killed
        return train(config, workdir, listeners)

    with pytest.raises(Killed):
        searched(config, given, tmp_path / "a", 4, dying)
    assert tune.trials_of(searched(config, given, tmp_path / "a", 4, dying)) == expected
    assert seen[2] == seen[3]
    assert len(seen) == 5


@pytest.mark.parametrize("error", [stopping.Stopped("saved", 15), OSError(28, "no space left on device")])
def test_a_trial_that_is_stopped_goes_on(tmp_path, config, given, error):
    def stopped(config, workdir, listeners):
        raise error

    with pytest.raises(type(error)):
        searched(config, given, tmp_path / "a", 2, stopped)
    assert [trial.state for trial in tune.trials_of(searched(config, given, tmp_path / "a", 2))] == [
        "complete"
    ] * 2


def test_workers_share_the_trials(tmp_path, config, given):
    trained, lock = [], threading.Lock()

    def slowly(config, workdir, listeners):
        with lock:
            trained.append(workdir.name)
        time.sleep(0.05)
        return train(config, workdir, listeners)

    threads = [
        threading.Thread(target=searched, args=(config, given, tmp_path / "out", 12, slowly))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trials = tune.trials_of(tune.open_search(config, given, tmp_path / "out"))
    assert len(trials) == 12
    assert sorted(trained, key=int) == [str(number) for number in range(12)]
    assert len({repr(trial.settings) for trial in trials}) == 12
    assert {trial.state for trial in trials} <= {"complete", "pruned"}


def test_a_trial_that_another_worker_holds_is_left_to_it_and_waited_for(tmp_path, config, given, monkeypatch):
    def dying(config, workdir, listeners):
        raise Killed

    with pytest.raises(Killed):
        searched(config, given, tmp_path / "a", 1, dying)
    search = tune.open_search(config, given, tmp_path / "a")
    waits = []

    def end_the_other(seconds):
        waits.append(seconds)
        other.__exit__(None, None, None)

    monkeypatch.setattr(tune.time, "sleep", end_the_other)
    other = sweep.claimed(tmp_path / "a" / search.name(0))
    assert other.__enter__()
    tune.work(search, 1, train, report=silent)
    assert len(waits) == 1
    assert [trial.state for trial in tune.trials_of(search)] == ["complete"]


def test_a_failure_is_recorded_and_stops_nothing(tmp_path, config, given):
    def failing(config, workdir, listeners):
        if workdir.name in ("1", "3"):
            raise InputError("loss is nan")
        return train(config, workdir, listeners)

    said = []
    search = tune.open_search(config, given, tmp_path / "a")
    tune.work(search, 4, failing, report=said.append)
    trials = tune.trials_of(search)
    assert [trial.state for trial in trials] == [
        "fail" if trial.number in (1, 3) else "complete" for trial in trials
    ]
    assert len(trials) == 6
    assert "trial 1: failed: loss is nan" in said
    assert '"reason": "loss is nan"' in (tmp_path / "a/trials/1/failure.json").read_text()


def test_a_trial_that_failed_unknown_to_the_study_and_does_not_now_has_no_failure(tmp_path, config, given):
    def dying(config, workdir, listeners):
        workdir.mkdir(parents=True, exist_ok=True)
        for name in ("failure.json", ".failure.json.tmp"):
            (workdir / name).write_text("{}")
        raise Killed

    with pytest.raises(Killed):
        searched(config, given, tmp_path / "a", 1, dying)
    searched(config, given, tmp_path / "a", 1)
    assert sorted(path.name for path in (tmp_path / "a/trials/0").iterdir() if "claim" not in path.name) == [
        "result.json"
    ]


def test_a_search_in_which_everything_fails_ends(tmp_path, config, given):
    def failing(config, workdir, listeners):
        raise RuntimeError("no device")

    with pytest.raises(InputError, match=r"trials/2: RuntimeError: no device; 3 trials failed, as many as"):
        searched(config, given, tmp_path / "a", 3, failing)
    with pytest.raises(InputError, match="none of 3 trials is complete"):
        tune.ranked(tune.trials_of(tune.open_search(config, given, tmp_path / "a")))


def test_another_config_or_space_is_refused_and_said(tmp_path, config, given):
    searched(config, given, tmp_path / "a", 1)
    other = config.to_dict()
    other["train"]["patience"] = 7
    with pytest.raises(InputError, match=r"has another search \(train\.patience: 100 there, 7 now\)"):
        tune.open_search(Config.from_dict(other), given, tmp_path / "a")
    wider = given | {"train.learning_rate": space.Axis(("train", "learning_rate"), 1e-5, 1e-1, True)}
    with pytest.raises(InputError, match=r"space: train\.learning_rate: .*0\.0001.* there, .*1e-05.* now"):
        tune.open_search(config, wider, tmp_path / "a")
    elsewhere = config.to_dict()
    elsewhere["train"]["log_every"] = 1
    tune.open_search(Config.from_dict(elsewhere), given, tmp_path / "a")


def test_a_dataset_that_is_not_there_is_said_before_any_trial(tmp_path, config, given):
    nested = config.to_dict()
    nested["data"] |= {"path": str(tmp_path / "nowhere"), "synthetic": {}}
    with pytest.raises(InputError, match="nowhere: no such directory"):
        tune.open_search(Config.from_dict(nested), given, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_search_of_another_dataset_is_refused(tmp_path, config, given):
    nested, data = config.to_dict(), tmp_path / "data"
    nested["data"] |= {"path": str(data), "synthetic": {}}
    config = Config.from_dict(nested)
    for seed in (0, 1):
        synthetic.prepare(synthetic.SyntheticSpec(rows=2000, values=(5, 5), seed=seed, order=2), data)
        if seed == 0:
            for _ in range(2):
                searched(config, given, tmp_path / "a", 1)
            shutil.rmtree(data)
    with pytest.raises(InputError, match=r"a/dataset\.json: schema_sha256"):
        tune.open_search(config, given, tmp_path / "a")


def test_teachers_are_relative_to_the_directory(tmp_path, config, given):
    nested = config.to_dict()
    nested["train"]["init_from"] = ("../other", str(tmp_path))
    seen = []

    def look(config, workdir, listeners):
        seen.append(config.train.init_from)
        return train(config, workdir, listeners)

    searched(Config.from_dict(nested), given, tmp_path / "a", 1, look)
    assert seen == [("../../../other", str(tmp_path))]


def test_finalists_are_ranked_by_the_mean_over_seeds(tmp_path, config, given):
    search = searched(config, given, tmp_path / "a", 8)
    best = tune.ranked(tune.trials_of(search))
    assert tune.finals(search, 1, 1, train)[0].aucs == {config.seed: best[0].auc}
    assert not (tmp_path / "a" / "finalists").exists()

    calls = []

    def by_seed(run, workdir, listeners):
        calls.append((workdir.parent.name, run.seed))
        bad = workdir.parent.name == str(best[0].number)
        result = result_of(run)
        result["valid"]["ensemble"]["auc"] -= 0.1 if bad else 0.0
        write_json(workdir / "result.json", result)

    found = tune.finals(search, 2, 3, by_seed, report=silent)
    assert [one.number for one in found] == [best[1].number, best[0].number]
    assert list(found[0].aucs) == [config.seed, config.seed + 1, config.seed + 2]
    assert found[0].mean == pytest.approx(sum(found[0].aucs.values()) / 3)
    assert sorted(calls) == sorted((str(b.number), config.seed + s) for b in best[:2] for s in (1, 2))
    # Started again, nothing is trained; and of test data the winner's alone are read.
    test = tune.metrics_on_test(search, found[0])
    assert [one.mean for one in tune.finals(search, 2, 3, by_seed, report=silent)] == [
        one.mean for one in found
    ]
    assert len(calls) == 4
    assert list(test) == list(found[0].aucs)
    for seed, metrics in test.items():
        assert metrics == Result.read(tmp_path / "a" / found[0].runs[seed]).test["ensemble"]


def test_one_whose_run_fails_is_no_finalist(tmp_path, config, given):
    search = searched(config, given, tmp_path / "a", 3)
    best = tune.ranked(tune.trials_of(search))

    def failing(run, workdir, listeners):
        if workdir.parent.name == str(best[0].number):
            raise InputError("loss is nan")
        write_json(workdir / "result.json", result_of(run))

    assert [one.number for one in tune.finals(search, 2, 2, failing, report=silent)] == [best[1].number]
    with pytest.raises(InputError, match=rf"finalists/{best[0].number}/s\d+: failed"):
        tune.finals(search, 1, 2, failing, report=silent)


def test_importances_are_shares_and_of_few_trials_there_are_none(tmp_path, config, given):
    assert tune.importances(searched(config, given, tmp_path / "a", 1)) == {}
    found = tune.importances(searched(config, given, tmp_path / "a", 25))
    assert found.keys() == given.keys()
    assert sum(found.values()) == pytest.approx(1)
    assert max(found, key=found.get) == "train.learning_rate"
