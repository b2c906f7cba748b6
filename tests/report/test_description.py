"""The page about an encoded dataset."""

import re

from ektf_jax.data.describe import Description, FieldDescription, Value
from ektf_jax.data.schema import SPLITS, Schema, make_fields
from ektf_jax.report import description

from .conftest import Checker

SCHEMA = Schema(
    "shop",
    make_fields([("a", 4, 1), ("<b>|", 3, 2)]),
    {"train": 8, "valid": 1, "test": 1},
    {"synthetic": True},
)
FIELDS = (
    FieldDescription(
        "a",
        1234,
        0.75,
        0.0,
        {"train": 0.25, "valid": 0.0, "test": 1.0},
        (Value("<i>", 4, 2), Value(None, 2, 0)),
    ),
    FieldDescription(
        "<b>|", 1, 0.125, 0.875, dict.fromkeys(SPLITS, 0.0), (Value("x|\n" + "y" * 99, 1, 1), Value("", 1, 0))
    ),
)
DESCRIPTION = Description(SCHEMA, {"train": 0.25, "valid": 0.0, "test": 1.0}, FIELDS)


def test_table(tmp_path):
    text = description.write(DESCRIPTION, tmp_path)
    assert text.splitlines()[0] == "shop: the encoded dataset (synthetic raw files)"
    assert "| train | 8 | 0.2500 |" in text
    assert "| a | 1,234 | 75.00 | 0 | 25.00 | 0 | 100.00 |" in text
    assert r"| \<b>\| | 1 | 12.50 | 87.50 | 0 | 0 | 0 |" in text
    page = (tmp_path / "description.md").read_text()
    assert text.partition("\n\n")[2].split("\n\n")[1] in page
    assert r"| \<i> | 4 | 50.00 | 0.5000 |" in page
    assert "| OOV | 2 | 25.00 | 0.0000 |" in page
    assert rf"| x\|\\n{'y' * 55}… | 1 | 12.50 | 1.0000 |" in page
    assert '| "" | 1 | 12.50 | 0.0000 |' in page


def test_page_stands_alone(tmp_path):
    description.write(DESCRIPTION, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["description.html", "description.md"]
    html = (tmp_path / "description.html").read_text()
    checker = Checker()
    checker.feed(html)
    assert checker.open == []
    assert checker.sources == []
    assert sorted(checker.links) == sorted(f"#{one}" for one in checker.ids)
    assert "<i>" not in html
    assert "&lt;i&gt;" in html


def test_bars_share_a_scale(tmp_path):
    description.write(DESCRIPTION, tmp_path)
    html = (tmp_path / "description.html").read_text()
    bars = re.findall(r'([\d.]+) <svg.*?<rect width="([\d.]+)".*?<rect x="([\d.]+)"', html)
    # The highest rate fills its bar; the line is at the training rows' 0.25.
    assert bars == [
        ("0.5000", "50.0", "25.0"),
        ("0.0000", "0.0", "25.0"),
        ("1.0000", "100.0", "25.0"),
        ("0.0000", "0.0", "25.0"),
    ]


def test_no_clicks_at_all(tmp_path):
    fields = (FIELDS[0]._replace(heaviest=(Value("v", 3, 0),)),)
    description.write(Description(SCHEMA, dict.fromkeys(SPLITS, 0.0), fields), tmp_path)
    assert 'width="0.0"' in (tmp_path / "description.html").read_text()
