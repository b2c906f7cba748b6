"""A report's content, and Markdown made from it; `web` makes a page.

Titles, headings and cells are shown as they are. In paragraphs, notes and captions `code` stands between
backquotes, which a backslash makes characters: names from outside go through `names.literal` or `names.code`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from ektf_jax.report import names
from ektf_jax.report.tables import Cell, Table


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


def markdown(title: str, blocks: Sequence[Block]) -> str:
    """The page as Markdown; pictures lie beside it."""
    return "\n\n".join([_markdown_heading(title, 1), *map(_markdown_block, blocks)]) + "\n"


def markdown_table(table: Table) -> str:
    """Header and rows; the best of a column bold, the second best italic."""
    lines = [[_escaped(name) for name in table.header], ["---"] * len(table.header)]
    lines += [[_markdown_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_block(block: Block) -> str:
    if isinstance(block, Heading):
        return _markdown_heading(block.text, block.level)
    if isinstance(block, Text):
        return _plain(block.text)
    if isinstance(block, Table):
        notes = "".join(f"\n\n{_plain(note)}" for note in block.notes)
        return markdown_table(block) + notes
    return f"![{_plain(alt(block))}]({block.name}.png)\n\n{_plain(block.caption)}"


def _markdown_heading(text: str, level: int) -> str:
    # Number signs at the end would be taken for the end of the heading.
    shown = re.sub(r"#(?=#*\s*$)", r"\\#", _escaped(text))
    return f"{'#' * level} {shown}"


def _markdown_cell(cell: Cell) -> str:
    return {0: "{}", 1: "**{}**", 2: "*{}*"}[cell.rank].format(_escaped(cell.text))


def _escaped(text: str) -> str:
    """Markdown that shows a text as it is: what would be markup is escaped."""
    markup = r"[*|\\`~$]|<(?=[\w/!?])|&(?=#?\w+;)|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])"
    return re.sub(f"({markup})", r"\\\1", names.one_line(text))


def _plain(text: str) -> str:
    """Markdown of a text with code in it."""
    return "".join(_markdown_code(part) if code else _escaped(part) for part, code in parts(text))


def _markdown_code(text: str) -> str:
    # The fence is longer than any within.
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    # Of code between spaces one on either side is no part of it.
    between = text.strip(" ") and text[0] == text[-1] == " "
    return f"{fence} {text} {fence}" if between or "`" in text else f"`{text}`"


def parts(text: str) -> Iterator[tuple[str, bool]]:
    """Parts of a text with code between backquotes, and whether each is code."""
    for match in re.finditer(r"`((?:\\[\\`]|[^`])*)`|((?:\\[\\`]|[^`])+|`)", text):
        code = match[1] is not None
        yield re.sub(r"\\([\\`])", r"\1", match[1] if code else match[2]), code


def alt(picture: Picture) -> str:
    """The name of a numbered figure, the first sentence of another's caption."""
    return re.split(r"[.:]( |$)", picture.caption)[0]
