"""What SECURITY.md promises: no code from data, no names that lead out, no markup from names."""

import ast
import json
import re
from pathlib import Path

import pytest

from ektf_jax import load_bundle
from ektf_jax.bundle import reader
from ektf_jax.errors import InputError
from ektf_jax.report import run_page
from ektf_jax.report.run_page import About
from ektf_jax.result import Result

from .report.conftest import Checker

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    path
    for folder in ("ektf_jax", "configs", "experiments", "examples/serve")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
HOSTILE = "<script>alert(1)</script>\"'&../../x"

UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch"}
# A call by its last name, and where it may stand.
CALLS = {
    # polars' list.eval, of expressions
    "eval": {"ektf_jax/data/parts.py", "ektf_jax/data/columns.py", "ektf_jax/data/ids.py"},
    "exec": {"ektf_jax/cli/config.py"},
    "system": set(),
    "popen": set(),
    "unpack_archive": set(),
    "extractall": set(),
    "unsafe_load": set(),
    "full_load": set(),
    "import_module": {
        "ektf_jax/__init__.py",
        "ektf_jax/cli/__init__.py",
        "ektf_jax/keys.py",  # what a config names
        "ektf_jax/training/versions.py",
    },
    "urlopen": {"ektf_jax/data/movielens.py"},
}


def calls(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            yield name, node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_comes_from_data(path):
    tree, where = ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(ROOT))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(one.name for one in node.names)]
            assert not {name.partition(".")[0] for name in names} & UNSAFE_MODULES
    for name, node in calls(tree):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert name not in CALLS or where in CALLS[name], f"{where}:{node.lineno}: {name}"
        assert keywords.get("shell", "False") == "False", f"{where}:{node.lineno}"
        text = ast.unparse(node.func)
        if text in ("np.load", "numpy.load", "np.save", "numpy.save"):
            assert keywords.get("allow_pickle") == "False", f"{where}:{node.lineno}"
        if text == "yaml.load":
            assert where == "ektf_jax/document.py"


def test_yaml_makes_no_objects(tmp_path):
    from ektf_jax.document import read_yaml

    path = tmp_path / "a.yaml"
    path.write_text("a: !!python/object/apply:os.system ['touch made']\n")
    with pytest.raises(InputError, match="is not YAML"):
        read_yaml(path, "--space", "docs/tuning.md")
    assert not Path("made").exists()


def test_a_name_in_a_bundle_does_not_lead_out_of_it(tmp_path):
    bundle, secret = tmp_path / "bundle", tmp_path / "secret"
    bundle.mkdir()
    secret.write_text("not of the bundle")
    about = {"format": reader.FORMAT, "version": reader.VERSION, "predictor": "ensemble", "students": 2}
    files = {"../secret": reader.sha256(secret)}
    (bundle / reader.DESCRIPTION).write_text(json.dumps(about | {"slots": 3, "files": files}))
    with pytest.raises(InputError, match=re.escape(str(bundle / "secret"))):
        load_bundle(bundle)


def test_names_are_no_markup(tmp_path):
    """Of fields and students, on the page about a run."""
    made = json.loads(
        (ROOT / "results" / "scaling" / "ml1m" / "base" / "mlp_k2_s2024" / "result.json").read_text()
    )
    made["embedding_use"] = {HOSTILE: made["embedding_use"]["Gender"]}
    made["dataset"]["name"] = made["device"] = HOSTILE
    made["dataset"]["source"]["files"] = {HOSTILE: {"bytes": 1, "sha256": "0" * 64}}
    (tmp_path / "result.json").write_text(json.dumps(made))
    about = About(Result.read(tmp_path), [], None, {HOSTILE: [0.1, 0.2]})
    out = tmp_path / "out" / "page"
    run_page.write(about, out, HOSTILE)
    checker = Checker()
    checker.feed((out / "run.html").read_text(encoding="utf-8"))
    assert checker.open == []
    assert not {"script", "iframe", "object"} & checker.tags
    assert all(source.startswith("data:") for source in checker.sources)
    assert "<script>" not in (out / "run.md").read_text(encoding="utf-8").replace("\\<", "")
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"result.json", *(f"out/page/{n}" for n in ("run.md", "run.html"))} | {
        f"out/page/importance.{kind}" for kind in ("png", "svg")
    }
