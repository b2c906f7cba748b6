"""What `make docs` needs beside its tools: formulas without a script. Its extra is there where CI tests."""

import re

import pytest

from docs import pages

markdown = pytest.importorskip("markdown", reason="the extra `docs` is not installed")
pytest.importorskip("latex2mathml", reason="the extra `docs` is not installed")

EXTENSIONS = ["pymdownx.arithmatex", "docs.mathml", "tables"]
OPTIONS = {"pymdownx.arithmatex": {"generic": True}}


def html(text):
    return markdown.markdown(text, extensions=EXTENSIONS, extension_configs=OPTIONS)


def test_formulas_are_mathml_and_code_is_code():
    found = html(
        "A weight $\\lambda_k$, and\n\n$$\n\\sum_{k=1}^{K} \\lambda_k = 1\n$$\n\nwith `$OUT` and $5."
    )
    assert re.findall(r'<math[^>]*display="(\w+)"', found) == ["inline", "block"]
    assert "<mi>&#x003BB;</mi>" in found or "<mi>λ</mi>" in found
    assert "<code>$OUT</code>" in found
    assert "\\" not in found
    assert "and $5" in found


def test_every_formula_of_the_pages_is_one():
    """A backslash of LaTeX that is left on a page is a formula that nobody can read."""
    for path in pages.named():
        if path.suffix == ".md" and "$" in (text := path.read_text(encoding="utf-8")):
            shown = re.sub(r"<(pre|code)>.*?</\1>", "", html(text), flags=re.S)
            assert re.findall(r"\\[a-z]+", shown) == [], path
