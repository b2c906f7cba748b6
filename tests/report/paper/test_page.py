"""The written pages."""

import html
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ektf_jax.errors import InputError
from ektf_jax.report.paper import page
from tests import commands

from ..conftest import Checker, result

ROOT = Path(__file__).resolve().parents[3]


def write_report(directory, out):
    page.write(directory, out, title="A title", ceiling=0.95)
    return (out / "report.md").read_text(), (out / "report.html").read_text()


def test_a_report_of_recorded_runs_needs_no_jax(write, tmp_path):
    """Methods and students are in result.json in full, so nobody's code is asked for them."""
    for made, options in (
        (result("none", [0.8]), {}),
        (result("ektf", [0.8, 0.9]), {"kd": True, "dml": False}),
        (result("ektf", [0.8], seed=2), {}),
    ):
        needs = {"needs_peers": made["config"]["transfer"]["name"] == "ektf", "needs_teachers": False}
        made["method"] = {"options": options, **needs}
        directory = write(made | {"students": {"mlp": {"name": "mlp", "hidden_units": [4]}}})
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['jax', 'flax', 'optax', 'orbax']));"
        " import ektf_jax.result; from pathlib import Path; from ektf_jax.report.paper import page;"
        f" print(page.write(Path({str(directory)!r}), Path({str(tmp_path / 'out')!r}), title='t'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Left out" not in done.stdout
    labels = [line.split(" | ")[0] for line in done.stdout.splitlines()[2:]]
    assert labels[:2] == ["| single MLP", "| EKTF (only KD) of MLP"]


@pytest.fixture(scope="module")
def report(section_3, tmp_path_factory):
    """The directory of a report with everything in it."""
    out = tmp_path_factory.mktemp("report")
    write_report(section_3, out)
    return out


def test_the_html_page_is_well_formed_and_needs_nothing_else(report):
    text = (report / "report.html").read_text()
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert checker.links == [f"#{name}" for name in checker.ids]
    assert len(checker.sources) == 8
    assert all(source.startswith("data:image/svg+xml;base64,") for source in checker.sources)
    assert not {"script", "link", "iframe"} & checker.tags
    assert not re.search(r"https?:|@import|url\(", text)


def test_the_markdown_page_has_the_same_tables_and_names_pictures_that_are_there(report):
    markdown, text = ((report / f"report.{kind}").read_text() for kind in ("md", "html"))
    pictures = re.findall(r"!\[.*\]\((.*)\)", markdown)
    assert pictures == [
        "students.png",
        *(f"figure_{number}.png" for number in (2, 3, 4, 5, 7, 8)),
        "curves.png",
    ]
    assert all((report / picture).exists() for picture in pictures)
    assert all((report / picture).with_suffix(".svg").exists() for picture in pictures)
    rows = [line for line in markdown.splitlines() if line.startswith("|") and "---" not in line]
    assert len(rows) == text.count("<tr>")
    for heading in re.findall(r"^##+ (.*)$", markdown, re.M):
        assert f">{heading.replace('EKTF_Latest', 'EKTF<sub>Latest</sub>')}</h" in text


def test_the_same_runs_give_the_same_bytes(section_3, report, tmp_path):
    write_report(section_3, tmp_path)
    names = sorted(path.name for path in report.iterdir())
    assert len(names) == 2 + 2 * 8
    for name in names:
        assert (tmp_path / name).read_bytes() == (report / name).read_bytes()
        assert (tmp_path / name).stat().st_size > 5_000


def test_what_has_no_runs_is_left_out_with_a_line(write, tmp_path):
    write(result("none", [0.8]))
    directory = write(result("ektf", [0.8, 0.9]))
    markdown, _ = write_report(directory, tmp_path / "out")
    assert "### Table 2" in markdown
    assert "### Table 3" not in markdown
    assert (
        "Not here, for want of runs on MovieLens-1M: Findings of Section 3; Table 3; Table 4; Table 5;"
        " Figure 2; Figure 3; Figure 4; Figure 5; Figure 7; Figure 8; Training curves." in markdown
    )


def test_other_data_than_the_papers_has_no_tables_of_it(write, tmp_path):
    directory = write(result("ektf", [0.8, 0.9], dataset="synthetic"))
    markdown, _ = write_report(directory, tmp_path / "out")
    assert "### Table" not in markdown
    assert "Tables 2 to 5, which are about the paper's datasets;" in markdown


def test_several_datasets_have_a_section_each(write, tmp_path):
    write(result("ektf", [0.8, 0.9], dataset="criteo"))
    directory = write(result("ektf", [0.8, 0.9], dataset="kkbox"))
    markdown, _ = write_report(directory, tmp_path / "out")
    assert re.findall(r"^## (.*)$", markdown, re.M) == ["How to read this", "Criteo", "KKBox"]
    assert (tmp_path / "out" / "kkbox_students.png").exists()
    assert "2 result.json files: 1 on Criteo, 1 on KKBox." in markdown


def test_repetitions_and_variants_are_told(write, tmp_path):
    write(result("ektf", [0.8, 0.9], learning_rate=0.1))
    write(result("ektf", [0.8, 0.9], seed=1))
    write(result("ektf", [0.8, 0.9], seed=1))
    markdown, _ = write_report(write(result("ektf", [0.8, 0.9], seed=2)), tmp_path / "out")
    assert "repeat those of another result: `002`." in markdown
    assert (
        "only the tables All runs and Cost also have: EKTF of MLP [train.learning_rate = 0.1], K = 2."
        in markdown
    )


@pytest.mark.parametrize(
    ("content", "status", "message"), [(None, 0, "| EKTF of MLP |"), ("{", 2, "not a result of this project")]
)
def test_the_command_line(write, tmp_path, content, status, message):
    directory = write(result("ektf", [0.8, 0.9]))
    if content:
        (directory / "000" / "result.json").write_text(content)
    arguments = [f"--results={directory}", f"--out={tmp_path / 'out'}"]
    done = commands.run("experiments.report", *arguments)
    assert done.returncode == status
    assert message in done.stdout + done.stderr


DATASETS = [
    "a.b",
    "../../a",
    "a/b",
    "/etc",
    "x" * 300,
    "$x^{$",
    "$\\frac{1}$",
    "a|<b>`c`_d_",
    "",
    "..",
    "A",
    "a\nb",
]


@pytest.mark.filterwarnings("error")
def test_datasets_of_any_name_have_pictures_beside_the_page(write, tmp_path):
    for name in DATASETS:
        directory = write(result("ektf", [0.8, 0.9], dataset=name))
    markdown, text = write_report(directory, tmp_path / "out")
    pictures = re.findall(r"!\[.*\]\((.*)\)", markdown)
    assert len(set(pictures)) == len(DATASETS)
    assert all((tmp_path / "out" / picture).is_file() for picture in pictures)
    made = {path.name for path in (tmp_path / "out").iterdir()}
    svgs = {picture.replace(".png", ".svg") for picture in pictures}
    assert made == {"report.md", "report.html", *pictures, *svgs}
    assert {path.name for path in tmp_path.iterdir()} == {"out", "runs"}
    headings = re.findall(r"^## (.*)$", markdown, re.M)
    assert r"a\|\<b>\`c\`\_d\_" in headings
    assert r"\$x^{\$" in headings
    assert "a\\\\nb" in headings
    assert "a|&lt;b&gt;`c`_d_</h2>" in text


@pytest.mark.filterwarnings("error")
def test_names_of_students_devices_and_options_are_shown_as_they_are(write, tmp_path):
    made = result(
        "kdcl", [0.8, 0.9], kinds={"a|b": {"name": "m:$x$|<i>`y`_z_"}}, options={"variant": "$v$|`"}
    )
    made["device"], made["versions"] = "a `b` <c> | d", {"$jax$": "1 `x`"}
    markdown, text = write_report(write(made), tmp_path / "out")
    shown = r"KDCL-\$v\$\|\` (KL) of \$X\$\|\<I>\`Y\`\_Z\_"
    assert [line.count("|") - line.count(r"\|") for line in markdown.splitlines() if shown in line] == [11, 9]
    assert r"Devices: a \`b\` \<c> \| d. Versions: \$jax\$ 1 \`x\`." in markdown
    assert "KDCL-$v$|` (KL) of $X$|&lt;I&gt;`Y`_Z_" in text
    assert "<code>b</code>" not in text


WHOLE = json.dumps(result("ektf", [0.8, 0.9]))
BROKEN = {
    "nothing": b"",
    "empty": b"{}",
    "list": b"[]",
    "null": b"null",
    "text": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "large": WHOLE.replace('"epochs": 3', '"epochs": 1' + "0" * 300).encode(),
    "infinite": WHOLE.replace('"params": 1234', '"params": 1e999').encode(),
    "no students": json.dumps(json.loads(WHOLE) | {"test": {"ensemble": {}, "students": []}}).encode(),
}


def test_broken_results_are_listed_with_their_paths_and_the_report_goes_on(write, tmp_path):
    directory = write(result("ektf", [0.8, 0.9]))
    for name, content in BROKEN.items():
        (directory / name).mkdir()
        (directory / name / "result.json").write_bytes(content)
    (directory / "directory" / "result.json").mkdir(parents=True)
    good = write(result("ektf", [0.8, 0.9], seed=2), [0.7]).joinpath("001")
    assert good.is_dir()
    torn = write(result("ektf", [0.8, 0.9], seed=3), [0.7]).joinpath("002")
    (torn / "metrics.jsonl").write_bytes(b'{"epoch": \xff\n')
    printed = page.write(directory, tmp_path / "out", title="A title")
    markdown = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    page_ = html.unescape((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "| EKTF of MLP | 2 | 2 |" in printed
    for name in [*BROKEN, "directory"]:
        path = f"{directory / name / 'result.json'}: not a result of this project"
        assert f"Left out: {path}" in printed
        assert f"Left out, as it cannot be read: {path}" in page_
        assert f"/{name.replace('_', chr(92) + '_')}/result.json" in markdown
    assert f"Left out: {torn / 'metrics.jsonl'}: line 1" in printed


def test_results_that_are_all_broken_are_an_error(write, tmp_path):
    directory = write({})
    with pytest.raises(InputError, match=r"000/result\.json: not a result of this project"):
        page.write(directory, tmp_path / "out", title="A title")
    assert not (tmp_path / "out").exists()
