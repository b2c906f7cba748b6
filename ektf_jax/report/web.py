"""A report as one HTML file that needs no other."""

import base64
import html
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from ektf_jax.files import write_text
from ektf_jax.report import figures, names, render
from ektf_jax.report.render import Block, Heading, Picture, Text
from ektf_jax.report.tables import MISSING, STAR, Bar, Cell, Table

_LONG = 60  # characters: a text of several lines


def write(out: Path, name: str, title: str, blocks: Sequence[Block], indexed: Collection[str] = ()) -> None:
    """Write a document to a directory: NAME.md, NAME.html and its pictures, as PNG and SVG."""
    out.mkdir(parents=True, exist_ok=True)
    for block in blocks:
        if isinstance(block, Picture):
            figures.save(block.figure, out / block.name)
    write_text(out / f"{name}.md", render.markdown(title, blocks))
    write_text(out / f"{name}.html", page(title, blocks, out, indexed))


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
        starred = [any(cell.text.endswith(STAR) for cell in cells) for cells in columns]

        def classes(cell: Cell, kind: str, star: bool) -> str:
            return f"{kind} unstarred" if star and kind == "number" and not cell.text.endswith(STAR) else kind

        rows = "\n".join(
            "<tr>"
            + "".join(
                f"<td{_class(classes(cell, kind, star))}>{self.cell(cell)}</td>"
                for cell, kind, star in zip(row, kinds, starred, strict=True)
            )
            + "</tr>"
            for row in table.rows
        )
        notes = "".join(f'\n<p class="note">{self.inline(note)}</p>' for note in table.notes)
        return (
            f'<div class="table" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{rows}\n</tbody>\n</table></div>{notes}"
        )

    def cell(self, cell: Cell) -> str:
        text = {0: "{}", 1: "<b>{}</b>", 2: "<u>{}</u>"}[cell.rank].format(_minus(self.text(cell.text)))
        return text if cell.bar is None else f"{text} {_bar(cell.bar)}"

    def picture(self, picture: Picture) -> str:
        wide = _data((self.directory / f"{picture.name}.svg").read_bytes())
        small = _data(figures.narrow(picture.figure))
        return (
            f'<figure><picture><source media="screen and (max-width: 40rem)" srcset="{small}">'
            f'<img alt="{html.escape(render.alt(picture))}" src="{wide}"></picture>'
            f"<figcaption>{self.inline(picture.caption)}</figcaption></figure>"
        )


def _data(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def _with_index(name: re.Match[str]) -> str:
    shown, _, index = name[0].partition("_")
    return f"{shown}<sub>{index}</sub>"


def _minus(text: str) -> str:
    """A number's hyphen as the minus that is as wide as a plus."""
    return re.sub(r"^-(?=\d)", "\N{MINUS SIGN}", text)


def _bar(bar: Bar) -> str:
    # The text beside it says the same to who cannot see it.
    return (
        '<svg class="bar" viewBox="0 0 100 8" width="150" height="12" preserveAspectRatio="none"'
        f' aria-hidden="true"><rect width="{100 * bar.length:.1f}" height="8" fill="#0a5ca8"/>'
        f'<rect x="{100 * bar.mark:.1f}" width="0.7" height="8" fill="#1a1a1a"/></svg>'
    )


def _kind(texts: Sequence[str]) -> str:
    """The class of a column: numbers to the right; where some have words or a deviation to the left, or they
    shift; texts by their length."""
    number = re.compile(r"[+-]?[\d.,]+(e-\d+)?( ± [\d.]+)?( ★| better| worse)?")
    if not all(text in ("", "-", MISSING) or number.fullmatch(text) for text in texts):
        return "long" if max(map(len, texts), default=0) > _LONG else "text"
    return "spread" if any("±" in text or "r" in text for text in texts) else "number"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _anchor(number: int) -> str:
    return f"section-{number + 1}"


_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 Georgia, "Times New Roman", serif; color: #1a1a1a; background: #fff;
  max-width: 62rem; margin: 2.5rem auto; padding: 0 1.25rem; overflow-wrap: break-word; }
h1, h2, h3, nav, table, figcaption, .note { font-family: "Helvetica Neue", Helvetica, Arial, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 1.2rem; }
h2 { font-size: 1.35rem; margin: 2.8rem 0 0.6rem; padding-top: 0.8rem; border-top: 2px solid #1a1a1a; }
h3 { font-size: 1.05rem; margin: 2.2rem 0 0.5rem; }
p { max-width: 44rem; margin: 0.6rem 0; }
nav { font-size: 0.85rem; }
nav ul { list-style: none; margin: 0; padding: 0; columns: 2 16rem; column-gap: 2rem; }
nav li { break-inside: avoid; padding: 0.1rem 0; }
nav .level3 { padding-left: 1rem; }
nav a { color: inherit; text-decoration-color: #767676; }
code { font-size: 0.88em; overflow-wrap: anywhere; }
.table { overflow-x: auto; margin: 0.8rem 0; width: fit-content; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; font-size: 0.82rem; line-height: 1.35;
  font-variant-numeric: lining-nums tabular-nums; border-bottom: 1.5px solid #1a1a1a; }
th, td { padding: 0.22rem 0.65rem; text-align: left; vertical-align: top; }
th { font-weight: 600; border-top: 1.5px solid #1a1a1a; border-bottom: 1px solid #1a1a1a;
  vertical-align: bottom; }
tbody tr + tr td { border-top: 1px solid #e6e6e6; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; padding-left: 0; }
th.number, td.number { text-align: right; }
td.number, td.spread { white-space: nowrap; }
td.unstarred::after { content: " ★"; visibility: hidden; }
svg.bar { background: #f0f0f0; vertical-align: -1px; margin-left: 0.4rem; }
sub { font-size: 0.75em; line-height: 0; white-space: nowrap; }
.note { font-size: 0.8rem; color: #444; margin: 0.3rem 0; }
figure { margin: 1.2rem 0 1.8rem; break-inside: avoid; }
figure img { max-width: 100%; height: auto; }
figcaption { font-size: 0.82rem; color: #333; max-width: 44rem; }
@media screen and (max-width: 40rem) {
  body { margin: 1.5rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; }
  h2 { margin-top: 2.2rem; }
  nav li { padding: 0.3rem 0; }
  figure img { width: 100%; }
  th, td { padding: 0.3rem 0.5rem; }
  th:first-child, td:first-child { min-width: 5rem; max-width: 8rem; border-right: 1px solid #bbb; }
  td.text { min-width: 5.5rem; }
  td.long { min-width: 16rem; }
  td.long:first-child { min-width: 9rem; max-width: 9rem; }
}
@page { margin: 14mm; }
@media print {
  body { font-size: 10.5pt; margin: 0; max-width: none; padding: 0; }
  nav { display: none; }
  h2, h3 { break-after: avoid; }
  tr { break-inside: avoid; }
  .table { overflow: visible; max-width: none; }
  table { font-size: 7.5pt; }
  th, td { padding: 0.15rem 0.3rem; }
  th:first-child, td:first-child { position: static; }
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
