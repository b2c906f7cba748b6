"""Formulas as MathML when the site is built: no browser needs a script, or the network, to show them."""

import xml.etree.ElementTree as etree
from typing import Any

from latex2mathml import converter
from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor


class _Formulas(Treeprocessor):
    """Turns what pymdownx.arithmatex has found, \\(...\\) and \\[...\\], into <math>."""

    def run(self, root: etree.Element) -> None:
        for element in root.iter():
            if element.get("class") == "arithmatex" and element.text:
                formula = element.text.strip()
                display = "block" if formula.startswith("\\[") else "inline"
                element.text = None
                element.append(converter.convert_to_element(formula[2:-2].strip(), display=display))


class MathML(Extension):
    """Needs pymdownx.arithmatex with `generic: true` beside it."""

    def extendMarkdown(self, md: Markdown) -> None:
        # After arithmatex's inline pattern has run, which is Markdown's own `inline` at 20.
        md.treeprocessors.register(_Formulas(md), "mathml", 15)


def makeExtension(**options: Any) -> MathML:
    """Return the extension: Python-Markdown calls this by name."""
    return MathML(**options)
