"""Text from outside in Markdown and HTML: whatever it is made of, both show it as it is."""

import html.parser
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ektf_jax.report import names, render, web
from ektf_jax.report.render import Heading, Text
from ektf_jax.report.tables import Cell, Table

NASTY = [
    "a|b",
    "`x`",
    "a`b",
    "``",
    "\\",
    "a\\|b",
    "\\`",
    "_x_",
    "__init__",
    "a_b_c",
    "*x*",
    "**",
    "~~x~~",
    "$x^2$",
    "<b>x</b>",
    "<script>alert(1)</script>",
    "<!-- x",
    "&lt;",
    "&#65;",
    "[a](b)",
    "![a](b)",
    "[a]: b",
    "a #",
    "# a",
    "a ##",
    "C#",
    "- a",
    "1. a",
    "> a",
    "a\nb",
    "a\n\n# b",
    "a\r\tb",
    "a  ",
    "\udcff",
    "é 日本",
]
ANY = st.one_of(
    st.sampled_from(NASTY), st.text(alphabet="`\\|_*<>&#[]()!~$a1; :\n", max_size=8), st.text(max_size=6)
)
QUOTES = "''"  # of no text, as code
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


class Reader(html.parser.HTMLParser):
    """The text in each element of a kind, as a browser shows it, and all tags."""

    def __init__(self, *kinds):
        super().__init__()
        self.kinds, self.texts, self.tags, self.reading = kinds, [], [], False

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in self.kinds:
            self.texts.append("")
            self.reading = True

    def handle_endtag(self, tag):
        self.reading = self.reading and tag not in self.kinds

    def handle_data(self, data):
        if self.reading:
            self.texts[-1] += data


def read(text, *kinds):
    reader = Reader(*kinds)
    reader.feed(text)
    return [shown(part) for part in reader.texts], set(reader.tags)


def shown(text):
    return " ".join(names.one_line(text).split())


@settings(deadline=None)
@given(ANY)
@example("`")
@example("# ")
@example(" 1 ")
def test_markdown_shows_a_name_as_it_is(name):
    blocks = [
        Heading(name),
        Text(f"Dataset {names.code(name)}: a {names.literal(name)}, and `code`."),
        Table("t", (name, "b"), ((Cell(name), Cell("1")), (Cell(f"x{name}x", 1), Cell(f"x{name}x", 2)))),
    ]
    text = MARKDOWN.render(render.markdown(f"x{name}", blocks))
    assert read(text, "h1")[0] == [shown(f"x{name}")]
    assert read(text, "h2")[0] == [shown(name)]
    assert read(text, "p")[0] == [shown(f"Dataset {name or QUOTES}: a {name}, and code.")]
    assert read(text, "code")[0] == [shown(name or QUOTES), "code"]
    assert read(text, "th")[0] == [shown(name), "b"]
    assert read(text, "td")[0] == [shown(name), "1", shown(f"x{name}x"), shown(f"x{name}x")]
    tags = {"h1", "h2", "p", "code", "table", "thead", "tbody", "tr", "th", "td", "strong", "em"}
    assert read(text)[1] <= tags


@settings(deadline=None)
@given(ANY)
def test_html_shows_a_name_as_it_is(name):
    blocks = [
        Heading(name),
        Text(f"Dataset {names.code(name)}: a {names.literal(name)}, and `code`."),
        Table("t", (name,), ((Cell(name),), (Cell(name, 1),))),
    ]
    text = web.page(name, blocks, None)
    for kind, expected in {
        "title": [name],
        "h1": [name],
        "h2": [name],
        "p": [f"Dataset {name or QUOTES}: a {name}, and code."],
        "code": [name or QUOTES, "code"],
        "th": [name],
        "td": [name, name],
    }.items():
        assert read(text, kind)[0] == [shown(part) for part in expected]
    assert not {"script", "img", "i"} & read(text)[1]


@given(st.one_of(ANY, st.text(min_size=250, max_size=400)))
def test_a_file_name_is_one_everywhere(name):
    made = names.file_name(name)
    assert re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,59}", made)
    assert (made == name) == bool(re.fullmatch(r"[a-z0-9_][a-z0-9_-]{0,59}", name))


def test_file_names_of_different_names_differ_also_where_case_does_not_count():
    given_ = ["a", "A", "a.b", "a/b", "a b", "../a", "", ".", "..", "a" * 300, "a" * 301, "é", "日本", *NASTY]
    made = [names.file_name(name) for name in given_]
    assert len(set(made)) == len(set(given_))
    assert names.file_name("ml1m_synthetic") == "ml1m_synthetic"


@pytest.mark.parametrize(
    ("text", "line"), [("a\nb", "a\\nb"), ("\udcff\x00", "\\udcff\\x00"), ("é ±", "é ±")]
)
def test_one_line(text, line):
    assert names.one_line(text) == line
    assert names.one_line("a" * 20, 5) == "aaaa…"


def test_markup_is_escaped(tmp_path):
    table = Table("T", ("a|b",), ((Cell("AFN* <b>", 1),), (Cell("1 < 2"),)), ("x < 3 & `a*b`",))
    assert render.markdown("t", [table]).splitlines()[2:] == [
        r"| a\|b |",
        "| --- |",
        r"| **AFN\* \<b>** |",
        "| 1 < 2 |",
        "",
        "x < 3 & `a*b`",
    ]
    text = web.page("t & u", [table], tmp_path)
    assert "<b>AFN* &lt;b&gt;</b>" in text
    assert "x &lt; 3 &amp; <code>a*b</code>" in text
    assert "<title>t &amp; u</title>" in text


def test_columns_are_laid_out_by_what_they_hold(tmp_path):
    header = ("name", "number", "p", "said")
    rows = (
        (Cell("a"), Cell("-0.1000 ★"), Cell("0.018 better"), Cell("x" * 61)),
        (Cell("b"), Cell("+0.2000"), Cell("0.5 worse"), Cell("y")),
    )
    text = web.page("t", [Table("T", header, rows)], tmp_path)
    assert '<td class="number">\N{MINUS SIGN}0.1000 ★</td><td class="spread">0.018 better</td>' in text
    assert '<td class="number unstarred">+0.2000</td>' in text  # as wide as the other
    assert '<td class="long">y</td>' in text
    assert '<div class="table" tabindex="0">' in text  # scrolls by keys too
