"""A report's content, and Markdown and HTML made from it.

Titles, headings and cells are shown as they are. In paragraphs, notes and captions `code` stands between
backquotes, which a backslash makes characters: names from outside go through `names.literal` or `names.code`.
"""

import base64
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from ektf_jax.report import names
from ektf_jax.report.tables import MISSING, Bar, Cell, Table


@dataclass(frozen=True)
class Heading:
    """A heading of level 2 or 3, shown as it is."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph; `code` between backquotes."""

    text: str


@dataclass(frozen=True)
class Picture:
    """A figure, saved as NAME.png and NAME.svg, and what it shows."""

    name: str
    figure: Figure
    caption: str


Block = Heading | Text | Table | Picture

_INDEXED = sorted(map(html.escape, ("Latest", *names.MODELS.values())), key=len, reverse=True)
_INDEX = re.compile(f"EKTF_({'|'.join(map(re.escape, _INDEXED))})")


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """The page as Markdown; pictures lie beside it."""
    return "\n\n".join([_markdown_heading(title, 1), *map(_markdown_block, blocks)]) + "\n"


def markdown_table(table: Table) -> str:
    """Header and rows; the best of a column bold, the second best italic."""
    lines = [[_escaped(name) for name in table.header], ["---"] * len(table.header)]
    lines += [[_markdown_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def page(title: str, blocks: Sequence[Block], directory: Path) -> str:
    """The page as HTML that needs no other file: the pictures, NAME.svg in `directory`, are inside it."""
    headings = [block for block in blocks if isinstance(block, Heading)]
    links = "".join(
        f'<li class="level{heading.level}"><a href="#{_anchor(i)}">{_html(heading.text)}</a></li>\n'
        for i, heading in enumerate(headings)
    )
    body, number = [], 0
    for block in blocks:
        if isinstance(block, Heading):
            level = block.level
            body.append(f'<h{level} id="{_anchor(number)}">{_html(block.text)}</h{level}>')
            number += 1
        elif isinstance(block, Text):
            body.append(f"<p>{_inline(block.text)}</p>")
        elif isinstance(block, Table):
            body.append(_html_table(block))
        else:
            body.append(_html_picture(block, directory))
    return _PAGE.format(
        title=html.escape(names.one_line(title)), style=_STYLE, links=links, body="\n".join(body)
    )


def _markdown_block(block: Block) -> str:
    if isinstance(block, Heading):
        return _markdown_heading(block.text, block.level)
    if isinstance(block, Text):
        return _plain(block.text)
    if isinstance(block, Table):
        notes = "".join(f"\n\n{_plain(note)}" for note in block.notes)
        return markdown_table(block) + notes
    return f"![{_plain(_alt(block))}]({block.name}.png)\n\n{_plain(block.caption)}"


def _markdown_heading(text: str, level: int) -> str:
    # Number signs at the end would be taken for the end of the heading.
    shown = re.sub(r"#(?=#*$)", r"\\#", _escaped(text))
    return f"{'#' * level} {shown}"


def _markdown_cell(cell: Cell) -> str:
    return {0: "{}", 1: "**{}**", 2: "*{}*"}[cell.rank].format(_escaped(cell.text))


def _escaped(text: str) -> str:
    """Markdown that shows a text as it is: what would be markup is escaped."""
    markup = r"[*|\\`~$]|<(?=[\w/!?])|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])"
    return re.sub(f"({markup})", r"\\\1", names.one_line(text))


def _plain(text: str) -> str:
    """Markdown of a text with code in it."""
    return "".join(_markdown_code(part) if code else _escaped(part) for part, code in _parts(text))


def _markdown_code(text: str) -> str:
    # The fence is longer than any within.
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text else f"`{text}`"


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """Parts of a text with code between backquotes, and whether each is code."""
    for match in re.finditer(r"`((?:\\[\\`]|[^`])*)`|((?:\\[\\`]|[^`])+|`)", text):
        code = match[1] is not None
        yield re.sub(r"\\([\\`])", r"\1", match[1] if code else match[2]), code


def _html(text: str) -> str:
    """HTML that shows a text as it is; the paper's EKTF_x is EKTF with an index."""
    return _INDEX.sub(r"EKTF<sub>\1</sub>", html.escape(names.one_line(text), quote=False))


def _inline(text: str) -> str:
    """HTML of a text with code in it."""
    return "".join(
        f"<code>{html.escape(part, quote=False)}</code>" if code else _html(part)
        for part, code in _parts(text)
    )


def _html_table(table: Table) -> str:
    columns = [[row[i] for row in table.rows] for i in range(len(table.header))]
    kinds = [
        "spread" if any(cell.bar for cell in cells) else _kind([cell.text for cell in cells])
        for cells in columns
    ]
    head = "".join(
        f"<th{_class(kind)}>{_html(name)}</th>" for name, kind in zip(table.header, kinds, strict=True)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(f"<td{_class(kind)}>{_html_cell(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in table.rows
    )
    notes = "".join(f'\n<p class="note">{_inline(note)}</p>' for note in table.notes)
    return (
        f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>{notes}"
    )


def _html_cell(cell: Cell) -> str:
    text = {0: "{}", 1: "<b>{}</b>", 2: "<u>{}</u>"}[cell.rank].format(_html(cell.text))
    return text if cell.bar is None else f"{text} {_html_bar(cell.bar)}"


def _html_bar(bar: Bar) -> str:
    # The text beside it says the same to who cannot see it.
    return (
        '<svg class="bar" viewBox="0 0 100 8" width="150" height="12" preserveAspectRatio="none"'
        f' aria-hidden="true"><rect width="{100 * bar.length:.1f}" height="8" fill="#0a5ca8"/>'
        f'<rect x="{100 * bar.mark:.1f}" width="0.7" height="8" fill="#1a1a1a"/></svg>'
    )


def _html_picture(picture: Picture, directory: Path) -> str:
    data = base64.b64encode((directory / f"{picture.name}.svg").read_bytes()).decode()
    return (
        f'<figure><img alt="{html.escape(_alt(picture))}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{_inline(picture.caption)}</figcaption></figure>"
    )


def _alt(picture: Picture) -> str:
    """The name of a numbered figure, the first sentence of another's caption."""
    return re.split(r"[.:]( |$)", picture.caption)[0]


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
