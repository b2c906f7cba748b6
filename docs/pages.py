"""Lays out the site's pages in build/pages as they lie in the repository: python -m docs.pages

So a link means the same on the site as it does where the repository is read. Taken are the pages that
mkdocs.yml names, and what they link to. A notebook becomes a page.
"""

import re
import shutil
from pathlib import Path

from docs import notebook

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "pages"

LINK = re.compile(r"\]\((?!https?:|data:)([^)\s#]+)")  # to a file
_IN_NAV = re.compile(r"^ *- .*?([\w./-]+\.md)$", re.M)


def named() -> list[Path]:
    """Return the pages of mkdocs.yml; the notebook in the place of a page that is made of one."""
    names = _IN_NAV.findall((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    paths = [ROOT / name for name in names]
    return [path.with_suffix(".ipynb") if path.with_suffix(".ipynb").exists() else path for path in paths]


def lay_out(out: Path) -> None:
    """Copy the pages, and what they link to within the repository, to their own paths below `out`."""
    shutil.rmtree(out, ignore_errors=True)
    left = named()
    seen = set(left)
    while left:
        path = left.pop()
        target = out / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix not in (".md", ".ipynb"):
            shutil.copyfile(path, target)
            continue
        text = notebook.page(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
        for link in LINK.findall(text):
            linked = (path.parent / link).resolve()
            # What is not there is left out, and the build says who misses it.
            if linked.is_relative_to(ROOT) and linked.is_file() and linked not in seen:
                seen.add(linked)
                left.append(linked)
        target.with_suffix(".md").write_text(text.replace(".ipynb)", ".md)"), encoding="utf-8")


if __name__ == "__main__":
    lay_out(OUT)
