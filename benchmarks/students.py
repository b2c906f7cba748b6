"""Training step, compile time and memory of every model of Table 2, alone: results/benchmarks/students.json.

    python -m benchmarks.students [--models=mlp,afn,...] [--steps=7] [--turns=3]
    python -m benchmarks.students --peer_python=PYTHON --fuxictr=DIR --ektf=DIR

ML-1M's shape and settings, each model in a process of its own. With an interpreter that has torch and what
FuxiCTR needs, and checkouts of reczoo/FuxiCTR and salmon1802/EKTF, each model's PyTorch original takes turns
with it (`benchmarks/pytorch/originals.py`).
"""

import json
from pathlib import Path
from typing import Any

from absl import app, flags

from benchmarks import common, originals

_MODELS = flags.DEFINE_list("models", list(common.MODELS), "Keys of configs/published.py, one or more.")
_STEPS = flags.DEFINE_integer("steps", 7, "Timed steps of a turn.")
_TURNS = flags.DEFINE_integer("turns", 3, "Turns of either side.", lower_bound=1)
_PEER = flags.DEFINE_string("peer_python", None, "An interpreter with torch and what FuxiCTR needs.")
_CHECKOUTS = {
    name: flags.DEFINE_string(name, None, f"A checkout of {repository}.")
    for name, repository in (
        ("fuxictr", "reczoo/FuxiCTR"),
        ("ektf", "salmon1802/EKTF"),
    )
}


def _earlier(versions: dict[str, str]) -> dict[str, Any]:
    found, here = common.read("students"), common.machine()
    if not found:
        return {}
    same = all(found["machine"][key] == here[key] for key in ("cpu", "cores"))
    return {case["model"]: case for case in found["cases"]} if same and found["versions"] == versions else {}


def main(argv: list[str]) -> None:
    """Measure the models; the file is written anew after each, and keeps others of this machine and stack."""
    del argv
    versions = common.versions("jax", "jaxlib", "flax", "optax")
    peer = None
    if _PEER.value:
        checkouts = {name: Path(flag.value) for name, flag in _CHECKOUTS.items() if flag.value}
        peer = originals.Peer(_PEER.value, checkouts)
    cases = _earlier(versions)
    for model in _MODELS.value:
        cases[model] = originals.measure(model, steps=_STEPS.value, turns=_TURNS.value, peer=peer)
        common.write("students", {"versions": versions, "cases": list(cases.values())})
        print(json.dumps(cases[model]), flush=True)


if __name__ == "__main__":
    app.run(main)
