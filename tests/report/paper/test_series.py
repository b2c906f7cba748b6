"""Metrics over K, and the findings made of them."""

import math

import pytest

from ektf_jax.report.paper import select, series
from ektf_jax.report.paper.findings import findings

from ..conftest import LATEST, concat, load, result


def test_a_point_is_averaged_over_seeds(write):
    write(result("ektf", [0.80, 0.82], 0.85, seed=1))
    write(result("ektf", [0.84, 0.81], 0.87, seed=2))
    directory = write(result("ektf", [0.9] * 3, kinds=LATEST))  # not of MLPs
    points = series.of_mlps(load(directory), select.ektf())
    assert list(points) == [2]
    point = points[2]
    assert (point.auc, point.best, point.worst) == pytest.approx((0.86, 0.83, 0.805))
    assert (point.gap, point.spread, point.deviation) == pytest.approx((0.03, 0.025, 0.02 / math.sqrt(2)))
    assert point.best_logloss == pytest.approx((0.31 + 0.30) / 2)


def test_the_single_mlp_is_k_1_of_every_method_if_it_is_the_same_network(write):
    write(result("none", [0.7]))
    write(result("kd", [0.8, 0.8]))
    directory = write(concat(2, 0.8))
    runs = load(directory)
    for is_it in (select.method("kd"), select.method("none", "concat")):
        points = series.of_mlps(runs, is_it)
        assert (list(points), points[1].auc) == ([1, 2], 0.7)
    assert math.isnan(series.of_mlps(runs, select.method("none", "concat"))[2].best)
    assert series.of_mlps(runs, select.method("dml")) == {}

    other = result("none", [0.7], kinds={"mlp": {"name": "mlp", "hidden_units": [8]}}, seed=9)
    (directory / "000" / "result.json").unlink()
    write(other)
    assert list(series.of_mlps(load(directory), select.method("kd"))) == [2]


def test_the_authors_runs_are_a_series_too():
    points = series.logged("ml1m", "EKTF")
    assert list(points) == [2, 3, 4, 5, 6, 10]
    assert (points[5].auc, points[5].best, points[5].logloss) == (0.906243, 0.906130, 0.303615)
    assert math.isnan(points[5].deviation)
    assert math.isnan(series.logged("criteo", "MLPs_concat")[2].best)
    two = series.logged("criteo", "EKTF_L")[3]
    assert (two.auc, two.deviation) == pytest.approx((0.8163485, 0.000015 / math.sqrt(2)), abs=1e-12)


def verdicts(directory):
    return [finding.verdict for finding in findings(load(directory))]


def test_findings_that_are_seen(section_3):
    found = findings(load(section_3))
    assert [finding.verdict for finding in found] == ["seen"] * 5 + ["not measured"]
    assert found[0].measured.startswith("mean: AUC 0.8980 (K = 2) to 0.8960 (K = 4); sum:")
    assert found[2].measured == "mean: ensemble over best student 0.1080 (K = 2) to 0.1160 (K = 4)"
    assert "16 at K = 4" in found[5].measured


def test_findings_that_are_not_seen(write):
    for size in (2, 4):
        write(result("none", [0.9] * size, 0.9 + 0.001 * size))
        write(result("kd", [0.9 - 0.01 * size] * size, 0.9 - 0.001 * size))
        directory = write(result("dml", [0.85] * size, 0.9))
    # 3: the ensemble leads by 0.002 and 0.004. That is far, and more with K.
    assert verdicts(directory) == ["not seen", "not seen", "seen", "not seen", "not seen", "not measured"]


def test_findings_without_runs(write):
    write(result("none", [0.8, 0.8], 0.9))
    assert verdicts(write(result("kd", [0.8, 0.8]))) == []
    directory = write(result("kd", [0.8] * 4))
    assert verdicts(directory) == ["no runs"] * 5 + ["not measured"]


@pytest.mark.parametrize(
    ("auc", "said"),
    [
        (0.8995, "0.0005 under KD's ensemble where it was 0.0100 under it, so the L2 makes the difference"),
        (0.9007, "0.0007 over KD's ensemble where it was 0.0100 under it, so the L2 makes the difference"),
        (
            0.895,
            "0.0050 under KD's ensemble where it was 0.0100 under it, so the L2 does not make the difference",
        ),
    ],
)
def test_finding_5_says_what_the_l2_does(write, auc, said):
    for size in (2, 4):
        write(result("kd", [0.89] * size, 0.9, l2=0.01))
        directory = write(result("dml", [0.88] * size, 0.89, l2=0.01))
    alone = findings(load(directory))[4]
    assert "the L2 of the table is K times weaker" in alone.measured
    assert alone.measured.endswith("; there is no run of DML with K times the L2")
    write(result("dml", [0.5] * 2, 0.6, l2=0.03))  # not K times
    write(result("dml", [0.5] * 4, 0.6, l2=0.04, learning_rate=0.1))  # another difference too
    write(result("dml", [0.5] * 4, auc, l2=0.04))
    runs = load(directory)
    main = [run for run in runs if run.settings["embedding.l2"] == 0.01]
    found = findings(main, runs)[4]
    assert (found.claim, found.verdict) == (alone.claim, alone.verdict)
    assert f"with K times the L2, K = 4: best student 0.5000, ensemble {auc:.4f}, " in found.measured
    assert said in found.measured
    assert "K = 2:" not in found.measured
