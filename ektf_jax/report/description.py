"""A page about an encoded dataset: what `ektf_jax.data.describe` counted, as Markdown and one HTML file."""

from pathlib import Path

from ektf_jax.data.describe import Description, FieldDescription
from ektf_jax.data.schema import SPLITS
from ektf_jax.report import names, render, web
from ektf_jax.report.render import Block, Heading, Text
from ektf_jax.report.tables import Bar, Cell, Table

_SHOWN = 60  # characters of a value

_GUIDE = (
    "Values: the field's vocabulary, without padding and OOV. Coverage: the rows that have at least one of"
    " them. Empty: the rows that have nothing, not even an OOV value. OOV: among all values in a split, those"
    " that the vocabulary lacks; where the dataset keeps no missing values, as Criteo, they are among these.",
    "Values, coverage, empty and click rates are of the training rows. Numbers are shown as their buckets. A"
    " value that a multi-valued field holds twice in a row counts twice.",
)


def write(description: Description, out: Path) -> str:
    """Writes description.md and description.html to `out`; returns the tables of splits and fields."""
    schema = description.schema
    of_what = " (synthetic raw files)" if schema.source.get("synthetic") else ""
    title = f"{names.dataset(schema.dataset)}: the encoded dataset{of_what}"
    splits, fields = _splits(description), _fields(description)
    blocks: list[Block] = [Heading(splits.title), splits, Heading(fields.title), *map(Text, _GUIDE), fields]
    blocks += [
        Heading("Click rates of the heaviest values"),
        Text(
            "Bars begin at 0 and share one scale; the line in each is the click rate of all training rows,"
            f" {description.click_rate['train']:.4f}."
        ),
    ]
    rates = [value.clicks / value.occurrences for field in description.fields for value in field.heaviest]
    scale = max([*rates, description.click_rate["train"]]) or 1.0
    for field in description.fields:
        blocks += [Heading(_shown(field.name), 3), _values(field, description, scale)]
    web.write(out, "description", title, blocks)
    return f"{title}\n\n{render.markdown_table(splits)}\n\n{render.markdown_table(fields)}"


def _splits(description: Description) -> Table:
    schema = description.schema
    rows = tuple(
        (Cell(split), Cell(f"{schema.splits[split]:,}"), Cell(f"{description.click_rate[split]:.4f}"))
        for split in SPLITS
    )
    return Table("Splits", ("split", "rows", "click rate"), rows)


def _fields(description: Description) -> Table:
    rows = tuple(
        (
            Cell(_shown(field.name)),
            Cell(f"{field.values:,}"),
            *map(_percent, (field.coverage, field.empty, *(field.oov[split] for split in SPLITS))),
        )
        for field in description.fields
    )
    oov = tuple(f"OOV % {split}" for split in SPLITS)
    return Table("Fields", ("field", "values", "coverage %", "empty %", *oov), rows)


def _values(field: FieldDescription, description: Description, scale: float) -> Table:
    total = description.schema.splits["train"]
    mark = description.click_rate["train"] / scale
    rows = tuple(
        (
            Cell("OOV" if value.text is None else _shown(value.text)),
            Cell(f"{value.occurrences:,}"),
            _percent(value.occurrences / total),
            Cell(
                f"{value.clicks / value.occurrences:.4f}",
                bar=Bar(value.clicks / value.occurrences / scale, mark),
            ),
        )
        for value in field.heaviest
    )
    return Table(field.name, ("value", "count", "% of rows", "click rate"), rows)


def _percent(share: float) -> Cell:
    return Cell(f"{100 * share:.2f}" if share else "0")


def _shown(text: str) -> str:
    """A value on one line: control characters escaped, a long one cut, quotes if it is empty."""
    return names.one_line(text, _SHOWN) or '""'
