"""Notebooks without Jupyter: run one and keep what it showed, or read one as a page.

python -m docs.notebook examples/NAME.ipynb    runs it and writes its outputs into it
"""

import base64
import contextlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

Output = dict[str, Any]


def run(path: Path) -> tuple[list[list[Output]], dict[str, Any]]:
    """Run the code cells in order in one namespace; returns what each showed, and the namespace.

    What is printed and what `plt.show()` shows are outputs; nothing opens a window.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names: dict[str, Any] = {"__name__": "__main__"}
    pictures: list[Output] = []

    def show() -> None:
        pictures.extend(_pictures())

    shown: list[list[Output]] = []
    for number, cell in enumerate(_cells(path)):
        if cell["cell_type"] == "code":
            code = compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec")
            with contextlib.redirect_stdout(io.StringIO()) as printed, mock.patch.object(plt, "show", show):
                exec(code, names)
            text = printed.getvalue().splitlines(keepends=True)
            stream = {"name": "stdout", "output_type": "stream", "text": text}
            shown.append([*([stream] if text else []), *pictures])
            pictures.clear()
    return shown, names


def _pictures() -> Iterator[Output]:
    from matplotlib import pyplot as plt

    for number in plt.get_fignums():
        file = io.BytesIO()
        plt.figure(number).savefig(file, format="png", metadata={"Software": None})
        picture = base64.b64encode(file.getvalue()).decode()
        yield {"output_type": "display_data", "metadata": {}, "data": {"image/png": picture}}
    plt.close("all")


def page(path: Path) -> str:
    """Return a notebook as Markdown: cells in order, text outputs in blocks, pictures within the page."""
    parts = []
    for cell in _cells(path):
        source = "".join(cell["source"])
        parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
        for output in cell.get("outputs", []):
            if "text" in output:
                parts.append(f"```text\n{''.join(output['text']).rstrip()}\n```")
            else:
                parts.append(f"![](data:image/png;base64,{output['data']['image/png']})")
    return "\n\n".join(parts) + "\n"


def _cells(path: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return cells


def main(path: Path) -> None:
    """Run a notebook and write its outputs into it."""
    document = json.loads(path.read_text(encoding="utf-8"))
    outputs = iter(run(path)[0])
    number = 0
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            number += 1
            cell["outputs"], cell["execution_count"] = next(outputs), number
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
