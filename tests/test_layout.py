"""CONTRIBUTING's list of modules is whole, and its order is that of the imports."""

import ast
import re
import sys
from pathlib import Path

from ektf_jax.transfer import METHODS

ROOT = Path(__file__).resolve().parents[1]
LISTED = re.findall(r"^    ektf_jax/(\w+)", (ROOT / "CONTRIBUTING.md").read_text(), re.M)


def _top_level(path):
    return path.relative_to(ROOT / "ektf_jax").parts[0].removesuffix(".py")


def test_lists_of_a_packages_modules_are_whole():
    for folder in (ROOT / "ektf_jax" / name for name in ("report", "report/paper", "report/scaling")):
        listed = re.findall(
            r"^(\w+)/? +\S", ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), re.M
        )
        there = [path.stem for path in folder.glob("[!_]*") if path.suffix == ".py" or path.is_dir()]
        assert sorted(set(listed) & set(there)) == sorted(there)


def test_json_is_strict_wherever_it_is_written():
    """Python writes NaN and Infinity unless it is told not to; nothing else reads them."""
    lax = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("ektf_jax", "experiments")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("json.dump", "json.dumps")
        and not any(key.arg == "allow_nan" for key in node.keywords)
    ]
    assert lax == []


def _imported(path):
    """The top-level modules of ektf_jax that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            package, *rest = module.split(".")
            if package == "ektf_jax":
                yield rest[0]


def test_no_module_imports_one_above_it():
    files = [path for path in (ROOT / "ektf_jax").rglob("*.py") if path != ROOT / "ektf_jax" / "__init__.py"]
    assert set(LISTED) == {_top_level(path) for path in files}
    upwards = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files
        for name in _imported(path)
        if LISTED.index(name) < LISTED.index(_top_level(path))
    ]
    assert upwards == []


def _loaded(path):
    """Modules that importing a file of ours imports at once: not in functions, not for type checks alone."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _file(module):
    """The file of `ektf_jax.a.b`, or of `ektf_jax.a` where b is a name in it; None for others' modules."""
    while module.startswith("ektf_jax"):
        path = ROOT / module.replace(".", "/")
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.exists():
                return file
        module = module.rpartition(".")[0]
    return None


def test_what_a_step_and_its_evaluation_need_is_little():
    """Models, steps, methods, evaluation and synthetic data run where only JAX's own packages are."""
    seen, others = set(), set()
    left = [
        ROOT / "ektf_jax" / name
        for name in ("training/step.py", "training/build.py", "training/evaluate.py", "students/__init__.py")
    ]
    while left:
        file = left.pop()
        if file in seen:
            continue
        seen.add(file)
        for module in _loaded(file):
            if (ours := _file(module)) is not None:
                left.append(ours)
            else:
                others.add(module.partition(".")[0])
    assert others - set(sys.stdlib_module_names) == {"jax", "flax", "optax", "numpy"}


MOST_LINES = 400


def test_no_file_is_long():
    long = {
        str(path.relative_to(ROOT))
        for folder in ("ektf_jax", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }
    assert long == set()


# Beside methods and the paper's report: Eq. 2, 3 and 6 are losses, whose parts are named kd and dml, and are
# told by name while training; a model is called DAGFM too; what the peer trains is the authors' EKTF.
KNOW_METHODS = (
    *("ektf_jax/transfer/", "ektf_jax/report/paper/", "ektf_jax/losses", "ektf_jax/students/"),
    *("ektf_jax/training/listeners.py", "ektf_jax/training/finite.py", "ektf_jax/config.py"),
    "benchmarks/",
)


def test_no_method_is_known_by_name_elsewhere():
    """EKTF alone is the project's name too: it counts as a value."""
    names = METHODS.keys() - {"none", "ektf"}
    known = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("ektf_jax", "experiments", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not str(path.relative_to(ROOT)).startswith(KNOW_METHODS)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if set(re.findall(r"[a-z]\w*", line.lower())) & names or re.search("[\"']ektf[\"']", line)
    ]
    assert known == []


def test_the_shape_of_a_config_is_known_to_its_classes_alone():
    looked_up = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for folder in ("ektf_jax", "experiments", "benchmarks", "examples", "docs")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != ROOT / "ektf_jax" / "config.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if "config[" in line
    ]
    assert looked_up == []
