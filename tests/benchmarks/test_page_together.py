"""The page's section about runs that share a process: what is compared with what."""

from benchmarks.page import sections

MACHINE = {"cpu": "toy", "cores": 2, "memory_gib": 8.0, "load_before": 0.1}


def test_runs_together_are_compared_with_as_many_alone():
    alone = {"median": 24.0, "min": 20.0, "max": 32.0, "count": 3}
    cases = [
        {"model": "lr", "runs": 1, "seconds": {"alone": alone, "taking turns": 24.0}},
        {"model": "lr", "runs": 4, "seconds": {"alone": alone, "taking turns": 8.0, "as one": 12.0}},
    ]
    page = sections.SECTIONS["together"]({"machine": MACHINE, "versions": {"jax": "1"}, "cases": cases})
    rows = [[cell.text for cell in row] for row in page[-1].rows]
    assert [row[:2] + row[3:] for row in rows] == [
        ["lr", "1", "24.0", "", "1.0"],
        ["lr", "4", "8.0", "12.0", "3.0"],
    ]
    assert "24.0" in rows[0][2]
