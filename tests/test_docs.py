"""The worked example of docs/students.md, run as its reader would: files, then the command line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ektf_jax.students import REGISTRY

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "students.md").read_text()
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, re.S))


def test_the_example_is_short_and_trains(tmp_path):
    assert sum(len(text.split("\n")) for text in FILES.values()) < 40
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    command = re.search(r"python (-m experiments\.train --config=nfm.*)", PAGE).group(1)
    small = [
        "--config.data.synthetic.rows=4000",
        "--config.train.max_epochs=1",
        "--config.data.batch_size=256",
    ]
    run = subprocess.run(
        [sys.executable, *command.split(), *small],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "", "HOME": str(tmp_path)}
        | {name: value for name, value in os.environ.items() if name.startswith("JAX_")},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert re.search(r"test student 1 \(nfm\)  AUC 0\.\d+", run.stdout)
    result = json.loads((tmp_path / "runs" / "nfm_and_mlp" / "result.json").read_text())
    assert result["config"]["ensemble"]["students"]["nfm"] == {"name": "nfm:NFM", "hidden_units": [64]}


@pytest.mark.parametrize("name", REGISTRY)
def test_every_student_is_listed(name):
    assert f"| `{name}` |" in PAGE
