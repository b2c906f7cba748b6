"""A report as one HTML file that needs no other."""

import base64
import html
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ektf_jax.report import names, render
from ektf_jax.report.render import Block, Heading, Picture, Text
from ektf_jax.report.tables import MISSING, Bar, Cell, Table


def page(title: str, blocks: Sequence[Block], directory: Path, indexed: Collection[str] = ()) -> str:
    """The page as HTML that needs no other file: the pictures, NAME.svg in `directory`, are inside it.

    `indexed` are names such as X_Y, shown as X with the index Y.
    """
    make = _Html(directory, indexed)
    headings = [block for block in blocks if isinstance(block, Heading)]
    links = "".join(
        f'<li class="level{heading.level}"><a href="#{_anchor(i)}">{make.text(heading.text)}</a></li>\n'
        for i, heading in enumerate(headings)
    )
    body, number = [], 0
    for block in blocks:
        if isinstance(block, Heading):
            level = block.level
            body.append(f'<h{level} id="{_anchor(number)}">{make.text(block.text)}</h{level}>')
            number += 1
        elif isinstance(block, Text):
            body.append(f"<p>{make.inline(block.text)}</p>")
        elif isinstance(block, Table):
            body.append(make.table(block))
        else:
            body.append(make.picture(block))
    return _PAGE.format(
        title=html.escape(names.one_line(title)), style=_STYLE, links=links, body="\n".join(body)
    )


class _Html:
    """Texts and blocks as HTML."""

    def __init__(self, directory: Path, indexed: Collection[str]):
        self.directory = directory
        # The longest first: of two names that begin alike it is the one that is there.
        found = sorted((html.escape(name, quote=False) for name in indexed), key=len, reverse=True)
        self.indexed = re.compile("|".join(map(re.escape, found))) if found else None

    def text(self, text: str) -> str:
        """A text as it is, but for indices."""
        shown = html.escape(names.one_line(text), quote=False)
        return shown if self.indexed is None else self.indexed.sub(_with_index, shown)

    def inline(self, text: str) -> str:
        """A text with code in it."""
        return "".join(
            f"<code>{html.escape(part, quote=False)}</code>" if code else self.text(part)
            for part, code in render.parts(text)
        )

    def table(self, table: Table) -> str:
        columns = [[row[i] for row in table.rows] for i in range(len(table.header))]
        kinds = [
            "spread" if any(cell.bar for cell in cells) else _kind([cell.text for cell in cells])
            for cells in columns
        ]
        head = "".join(
            f"<th{_class(kind)}>{self.text(name)}</th>"
            for name, kind in zip(table.header, kinds, strict=True)
        )
        rows = "\n".join(
            "<tr>"
            + "".join(
                f"<td{_class(kind)}>{self.cell(cell)}</td>" for cell, kind in zip(row, kinds, strict=True)
            )
            + "</tr>"
            for row in table.rows
        )
        notes = "".join(f'\n<p class="note">{self.inline(note)}</p>' for note in table.notes)
        return (
            f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{rows}\n</tbody>\n</table></div>{notes}"
        )

    def cell(self, cell: Cell) -> str:
        text = {0: "{}", 1: "<b>{}</b>", 2: "<u>{}</u>"}[cell.rank].format(self.text(cell.text))
        return text if cell.bar is None else f"{text} {_bar(cell.bar)}"

    def picture(self, picture: Picture) -> str:
        data = base64.b64encode((self.directory / f"{picture.name}.svg").read_bytes()).decode()
        return (
            f'<figure><img alt="{html.escape(render.alt(picture))}" src="data:image/svg+xml;base64,{data}">'
            f"<figcaption>{self.inline(picture.caption)}</figcaption></figure>"
        )


def _with_index(name: re.Match[str]) -> str:
    shown, _, index = name[0].partition("_")
    return f"{shown}<sub>{index}</sub>"


def _bar(bar: Bar) -> str:
    # The text beside it says the same to who cannot see it.
    return (
        '<svg class="bar" viewBox="0 0 100 8" width="150" height="12" preserveAspectRatio="none"'
        f' aria-hidden="true"><rect width="{100 * bar.length:.1f}" height="8" fill="#0a5ca8"/>'
        f'<rect x="{100 * bar.mark:.1f}" width="0.7" height="8" fill="#1a1a1a"/></svg>'
    )


def _kind(texts: Sequence[str]) -> str:
    """The class of a column: numbers to the right; where some have a deviation to the left, or they shift."""
    number = re.compile(r"[+-]?[\d.,]+(e-\d+)?( ± [\d.]+)?( ★)?")
    if not all(text in ("", "-", MISSING, "image") or number.fullmatch(text) for text in texts):
        return ""
    return "spread" if any("±" in text for text in texts) else "number"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _anchor(number: int) -> str:
    return f"section-{number + 1}"


_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 Georgia, "Times New Roman", serif; color: #1a1a1a; background: #fff;
  max-width: 62rem; margin: 2.5rem auto; padding: 0 1.25rem; }
h1, h2, h3, nav, table, figcaption, .note { font-family: "Helvetica Neue", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 1.2rem; }
h2 { font-size: 1.35rem; margin: 2.8rem 0 0.6rem; padding-top: 0.8rem; border-top: 2px solid #1a1a1a; }
h3 { font-size: 1.05rem; margin: 2.2rem 0 0.5rem; }
p { max-width: 44rem; margin: 0.6rem 0; }
nav { font-size: 0.85rem; }
nav ul { list-style: none; margin: 0; padding: 0; columns: 2; column-gap: 2rem; }
nav .level3 { padding-left: 1rem; }
nav a { color: inherit; text-decoration-color: #bbb; }
code { font-size: 0.88em; }
.table { overflow-x: auto; margin: 0.8rem 0; }
table { border-collapse: collapse; font-size: 0.82rem; line-height: 1.35; font-variant-numeric: tabular-nums;
  border-top: 1.5px solid #1a1a1a; border-bottom: 1.5px solid #1a1a1a; }
th, td { padding: 0.22rem 0.65rem; text-align: left; vertical-align: top; }
th { font-weight: 600; border-bottom: 1px solid #1a1a1a; vertical-align: bottom; }
tbody tr + tr td { border-top: 1px solid #e6e6e6; }
th.number, td.number { text-align: right; }
td.number, td.spread { white-space: nowrap; }
svg.bar { background: #f0f0f0; vertical-align: -1px; margin-left: 0.4rem; }
sub { font-size: 0.75em; line-height: 0; white-space: nowrap; }
.note { font-size: 0.8rem; color: #444; margin: 0.3rem 0; }
figure { margin: 1.2rem 0 1.8rem; break-inside: avoid; }
figure img { max-width: 100%; height: auto; }
figcaption { font-size: 0.82rem; color: #333; max-width: 44rem; }
@page { margin: 14mm; }
@media print {
  body { font-size: 10.5pt; margin: 0; max-width: none; padding: 0; }
  nav { display: none; }
  h2, h3 { break-after: avoid; }
  tr { break-inside: avoid; }
  .table { overflow: visible; }
  table { font-size: 7.5pt; }
  th, td { padding: 0.15rem 0.3rem; }
}
""".strip()

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<h1>{title}</h1>
<nav aria-label="Contents"><ul>
{links}</ul></nav>
{body}
</body>
</html>
"""
