"""The page of a study over K."""

import pytest

from ektf_jax.report import seeds
from ektf_jax.report.paper.names import NAMES
from ektf_jax.report.scaling import conclusion, figures, page, tables
from tests import commands

from ..conftest import Checker
from ..conftest import result as bare
from .test_curves import OWN, load, run


@pytest.fixture
def study(write):
    """Two recipes over K = 2 and 10: own losses grow, EKTF does not."""
    for seed in range(3):
        noise = 0.0001 * seed
        for size, own in ((2, 0.850), (10, 0.852)):
            write(run(size, own + noise, seed, options=OWN))
            directory = write(run(size, 0.850 + noise, seed))
    return directory


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def test_what_grows_is_told_from_what_does_not(study):
    rows = texts(tables.growth(load(study)))
    assert [row[0] for row in rows] == ["own losses of MLP, a table each", "EKTF of MLP, a table each"]
    assert rows[0][1:3] == ["0.8501 ± 0.0001", "0.8521 ± 0.0001"]
    p = seeds.p_value([0.85, 0.8501, 0.8502], [0.852, 0.8521, 0.8522])
    assert rows[0][3:] == ["2 to 10", "3 and 3", "+0.0020", "+0.0020", f"{p:.1e}", "yes"]
    assert rows[1][3:7] == ["2 to 10", "3 and 3", "0.0000", "0.0000"]
    assert rows[1][-1] == "no"


def test_the_page_begins_with_what_it_comes_to(study, write):
    p = seeds.p_value([0.85, 0.8501, 0.8502], [0.852, 0.8521, 0.8522])
    write(run(2, 0.8, sharing="shared"))
    write(run(10, 0.9, sharing="shared", valid=0.7))
    grow, do_not, untested, best = conclusion.conclusion(load(study))
    ours = "own losses of MLP, a table each"
    assert grow == f"Grow with K, by 0.0015 or more (p < 0.01): {ours} (+0.0020, p = {p:.1e})."
    assert do_not == "Not so much, or not so surely: EKTF of MLP, a table each (0.0000, p = 1.000)."
    assert untested.endswith("nothing is tested: EKTF of MLP.")
    # One seed is no claim, however good it is.
    assert best == (
        f"Best on validation data: the ensemble of {ours}, K = 10, with a test AUC of 0.8521 and 1,234"
        f" parameters and 0.00 PFLOPs of training; the chosen student of {ours}, K = 10, with 0.8331."
    )
    assert conclusion.conclusion([]) == []


def test_a_rise_of_one_seed_is_none(write):
    write(run(2, 0.8))
    (row,) = texts(tables.growth(load(write(run(4, 0.9)))))
    assert row[-4:] == ["+0.1000", "+0.1000", "—", "no"]


def test_two_recipes_are_compared_at_the_largest_k_of_both(study, write):
    write(run(12, 0.9, options=OWN))
    (row,) = texts(tables.compared(load(study)))
    p = seeds.p_value([0.85, 0.8501, 0.8502], [0.852, 0.8521, 0.8522])
    assert row[:5] == [
        *("loss", "EKTF of MLP, a table each", "own losses of MLP, a table each"),
        *("10", "3 and 3"),
    ]
    assert row[5:] == ["-0.0020", f"{p:.1e}", "-0.0020", f"{p:.1e}"]


def test_every_point_has_its_figures_and_the_best_is_that_of_validation(study):
    table = tables.points(load(study))
    (last,) = (row for row in table.rows if row[0].text.startswith("own") and row[1].text == "10")
    found = dict(zip(table.header, last, strict=True))
    assert found["validation AUC"].rank == 1
    # 3 epochs of 80 rows, forward and twice as much backward.
    assert found["FLOPs a row"].text == "10,000"
    assert tables.training_flops(load(study)[0].groups[2].runs[0]) == 3 * 2000 * 80 * 3
    assert found["ambiguity"].text == "0.0100"
    assert found["error correlation"].text == "0.900"
    assert found["effective rank"].text == "4.0"
    assert found["chosen student"].text == f"{0.8521 - 0.019:.4f} ± 0.0001"
    assert found["lead"].text == "+0.0190"


def test_recipes_fill_rows_the_best_on_validation_first_and_one_far_off_leaves_the_others_room(write):
    for sharing in ("own", "shared", *(0.1 * i for i in range(1, 6))):
        for size in (2, 10):
            auc = 0.85 + 0.0015 * size if sharing == "own" else 0.85
            directory = write(run(size, 0.6 if sharing == "shared" else auc, sharing=sharing))
    rows = figures.rows(load(directory))
    assert [len(row) for row in rows] == [3, 4]
    best = [row[0].label for row in rows]
    assert best[0] == "EKTF of MLP, a table each"
    drawn = figures.over_k(rows)
    for axes in drawn.axes:
        low, high = axes.get_ylim()
        assert low > 0.8
        assert high < 0.9
    told = [text.get_text() for axes in drawn.axes for text in axes.texts]
    assert told.count("0.600 \N{DOWNWARDS ARROW}") == 2
    assert len(told) == 4  # its students too


def test_the_command_writes_the_page_with_its_figures(study, tmp_path):
    out = tmp_path / "out"
    done = commands.run("experiments.report", "--about=scaling", f"--results={study}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    written = (out / "report.md").read_text()
    for heading in (tables.GROWTH, tables.PAIRS, tables.POINTS):
        assert f"### {heading}" in written
    for name in ("auc_over_k", "auc_over_cost", "diversity"):
        assert f"({name}.png)" in written
        assert (out / f"{name}.svg").stat().st_size > 1000
    checker = Checker()
    checker.feed((out / "report.html").read_text())
    assert checker.open == []
    assert "constrained" not in done.stderr


def test_results_that_say_less_leave_gaps_and_no_curves_are_said(write, tmp_path):
    directory = write(bare("ektf", [0.8, 0.9]))
    page.write(directory, tmp_path / "none", NAMES, title="t")
    text = (tmp_path / "none" / "report.md").read_text()
    assert f"Not here, for want of runs on MovieLens-1M: {tables.GROWTH}" in text
    write(bare("ektf", [0.8, 0.9, 0.9]))
    page.write(directory, tmp_path / "less", NAMES, title="t")
    text = (tmp_path / "less" / "report.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| EKTF of MLP | 2 | 1 |")]
    assert [row.count("—") for row in rows] == [5, 0, 0]
