"""Models beside their PyTorch originals: turns, ratios, and what the original is told."""

import json
from pathlib import Path

from benchmarks import common, originals
from benchmarks.page import sections

SECONDS = {"ours": [[0.1, 0.1, 0.3], [0.2], [0.1]], "theirs": [[0.2], [0.3], [0.4]]}


def test_turns_are_compared_pair_by_pair(monkeypatch):
    ours, theirs, told = iter(SECONDS["ours"]), iter(SECONDS["theirs"]), []

    def original(command, *, python, input, env):
        told.append((command, python, json.loads(input), env["PYTHONPATH"]))
        return {"seconds": next(theirs), "params": 7, "versions": {"torch": "2"}}

    monkeypatch.setattr(
        common,
        "our_steps",
        lambda shape, k, steps: {
            "seconds": next(ours),
            "params": 7,
            "compile_seconds": 1.0,
            "peak_mib": 5,
        },
    )
    monkeypatch.setattr(common, "child_json", original)
    peer = originals.Peer("python-of-peer", {"fuxictr": Path("/zoo")})
    case = originals.measure("autoint", steps=1, turns=3, peer=peer)
    assert case["step_seconds"] == {"median": 0.1, "min": 0.1, "max": 0.3, "count": 5}
    assert case["samples_per_second"] == 40960
    # 0.2 / 0.1, 0.3 / 0.2 and 0.4 / 0.1
    assert case["original"]["times_as_fast"] == {"median": 2.0, "min": 1.5, "max": 4.0, "count": 3}
    command, python, task, path = told[0]
    assert (command, python, path) == (["benchmarks/pytorch/originals.py"], "python-of-peer", "/zoo")
    # All arguments, those that are not in the config too.
    assert (task["options"]["num_heads"], task["options"]["use_residual"]) == (4, True)
    assert task["fields"][-1] == ["Genres", 20, 5]
    assert task["checkouts"] == {"fuxictr": "/zoo"}

    machine = {"cpu": "toy", "cores": 2, "memory_gib": 8.0, "load_before": 0.1}
    alone = {key: value for key, value in case.items() if key != "original"} | {"model": "cl4ctr"}
    page = sections.students({"machine": machine, "versions": {"jax": "1"}, "cases": [case, alone]})
    rows = [[cell.text for cell in row] for row in page[-1].rows]
    assert [row[0] for row in rows] == ["autoint", "cl4ctr"]
    assert rows[0][-3] == "7"
    assert "2.0" in rows[0][-1]
    assert rows[1][-3:] == ["", "", ""]
