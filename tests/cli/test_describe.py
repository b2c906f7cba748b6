from ektf_jax.data import custom
from tests import commands


def command(*arguments):
    return commands.run("experiments.describe", *arguments)


def test_command(tmp_path):
    (tmp_path / "a.csv").write_text("y,c\n" + "1,v\n0,w\n" * 10)
    (tmp_path / "a.yaml").write_text("{dataset: mine, files: a.csv, label: y, fields: [c]}")
    custom.prepare(tmp_path / "a.yaml", tmp_path, tmp_path / "encoded")
    done = command(f"--data={tmp_path / 'encoded'}", f"--out={tmp_path / 'page'}", "--values=1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "| c | 2 | 100.00 | 0 | 0 | 0 | 0 |" in done.stdout
    assert f"{tmp_path / 'page'}/description.html: written" in done.stdout
    assert (tmp_path / "page/description.html").is_file()
    page = (tmp_path / "page/description.md").read_text().splitlines()
    assert sum(line.startswith(("| v | ", "| w | ")) for line in page) == 1  # --values


def test_no_dataset(tmp_path):
    done = command(f"--data={tmp_path}", f"--out={tmp_path / 'page'}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {tmp_path}/schema.json: missing")
    assert not (tmp_path / "page").exists()
