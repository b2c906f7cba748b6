"""KKBox: the four files of the WSDM Cup 2018, and RecZoo's KKBox_x1, the same joined into three CSV files.

RecZoo numbers users, songs and artists, and puts blanks between the values of a multi-valued field; the
original has texts, quoted where they need it, and '|' between values.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ektf_jax.data.generators import draws
from ektf_jax.data.generators.draws import Ints, Mask, Text
from ektf_jax.data.generators.world import Chunk, Column, Recipe, World

_TABS = draws.choices("my library|discover|search|radio|listen with|explore|notification|settings")
_SCREENS = draws.choices(
    "Local playlist more|Online playlist more|Radio|Album more|Search|Artist more|Discover Feature"
    "|Discover Chart|Others profile more|Discover Genre|My library|Explore|Unknown|Discover New|Search Trends"
    "|Search Home|My library_Search|Self profile more|Concert"
)
_TYPES = draws.choices(
    "local-library|online-playlist|local-playlist|radio|album|top-hits-for-artist|song|song-based-playlist"
    "|listen-with|topic-article-playlist|artist|my-daily-playlist"
)
_CITIES = draws.choices("1|13|5|4|15|22|6|14|12|9|11|8|18|10|21|3|17|7|16|20|19")
_LANGUAGES = draws.choices("3|52|31|-1|17|24|59|10|38|45")
_SEXES = draws.choices("female|male")
_REGISTRARS = draws.choices("9|7|3|4|13")
_COUNTRIES = draws.choices(
    "TW|US|GB|JP|HK|KR|CN|FR|DE|NL|QM|SE|CA|AU|SG|BR|IT|ES|MY|TC|NO|CH|BE|FI|DK|AT|IE|RU|NZ|TH|PL|ZA|UK|PT|IL"
    "|GR|IN|ID|PH|VN|MX|AR|CL|CO|CZ|HU|TR|UA|RO|BG|HR|RS|SI|SK|EE|LT|LV|IS|LU|MT|CY|JM|TT|PR|VE|PE|EC|CR|KZ|EG"
    "|NG|GH|KE|SN|CI|MA|TN|LB"
)
_NEAR_24 = sorted(range(1, 96), key=lambda age: abs(age - 24))
_AGES = draws.table(["0", *map(str, _NEAR_24), "-43", "103", "112", "1051"])  # 0 where it is not known
_LETTERS = draws.table([chr(code) for code in range(65, 91)])
_YEARS = draws.table([f"{year:02}" for year in range(100)])
_MEMBER = ("city", "bd", "gender", "registered_via", "registration_init_time", "expiration_date")
_SONG = ("song_length", "genre_ids", "artist_name", "composer", "lyricist", "language")
_EVENT = ("msno", "song_id", "source_system_tab", "source_screen_name", "source_type")
_GENRE_SLOTS = tuple(f"genre {slot}" for slot in range(4))
_ARTIST_SLOTS = tuple(f"artist {slot}" for slot in range(4))


def _events(world: World) -> Iterator[bytes]:
    yield _header(*_EVENT, "target")
    for labels, ranks in world.chunks(0, world.rows):
        users = draws.base64(draws.key("msno"), ranks["msno"])
        songs = draws.base64(draws.key("song_id"), ranks["song_id"])
        yield draws.lines([[users], [songs], *_sources(ranks), [_number(labels)]], ",")


def _members(world: World) -> Iterator[bytes]:
    yield _header("msno", *_MEMBER)
    for ranks in world.described("msno", _seen(world, "msno")):
        users = draws.base64(draws.key("msno"), ranks["msno"])
        yield draws.lines([[users], *_member(ranks)], ",")


def _songs(world: World) -> Iterator[bytes]:
    """The songs that were heard, less a few that songs.csv lacks."""
    yield _header("song_id", *_SONG)
    for every in world.described("song_id", _seen(world, "song_id")):
        ranks = {name: column[every["listed"] > 0] for name, column in every.items()}
        songs = draws.base64(draws.key("song_id"), ranks["song_id"])
        artists, composers, lyricists = _people(ranks)
        columns = [
            [_number(119_999 + ranks["length"])],
            draws.joined(_genres(ranks), _genre, "|"),
            _names(artists),
            _names(composers),
            _names(lyricists),
            [_LANGUAGES[ranks["language"]], draws.where(ranks["language"] > 0, ".0")],
        ]
        yield draws.lines([[songs], *columns], ",")


def _song_extra_info(world: World) -> Iterator[bytes]:
    yield _header("song_id", "name", "isrc")
    for ranks in world.described("song_id", _seen(world, "song_id")):
        songs = draws.base64(draws.key("song_id"), ranks["song_id"])
        yield draws.lines([[songs], _names([ranks["title"]]), _isrc(ranks)], ",")


def _split(name: str) -> Callable[[World], Iterator[bytes]]:
    def lines(world: World) -> Iterator[bytes]:
        yield _header("label", *_EVENT, *_MEMBER, *_SONG, "name", "isrc")
        for chunk in world.split(name):
            yield draws.lines(_joined(world, chunk), ",")

    return lines


def _joined(world: World, chunk: Chunk) -> list[list[Text]]:
    """A row of KKBox_x1: an event with all that describes its user and its song."""
    ranks = chunk.ranks
    # What songs.csv lacks of a song is missing here; its name and isrc come from elsewhere.
    song = {name: np.where(ranks["listed"] > 0, column, 0) for name, column in ranks.items()}
    listed = ranks["listed"] > 0
    return [
        [_number(chunk.labels)],
        *([_id(draws.ids(ranks[name], world.size(name)))] for name in ("msno", "song_id")),
        *_sources(ranks),
        *_member(ranks),
        [draws.decimal(119_999 + song["length"], listed)],
        draws.joined(_genres(song), _genre, " "),
        *(draws.joined(people, _id, " ") for people in _people(song)),
        [_LANGUAGES[song["language"]]],
        [_id(ranks["title"])],
        _isrc(ranks),
    ]


def _sources(ranks: dict[str, Ints]) -> list[list[Text]]:
    tables = zip((_TABS, _SCREENS, _TYPES), _EVENT[2:], strict=True)
    return [[texts[ranks[name]]] for texts, name in tables]


def _member(ranks: dict[str, Ints]) -> list[list[Text]]:
    return [
        [_CITIES[ranks["city"]]],
        [_AGES[ranks["bd"]]],
        [_SEXES[ranks["gender"]]],
        [_REGISTRARS[ranks["registered_via"]]],
        [_date(2004, ranks["registered"])],
        [_date(2017, ranks["expires"])],
    ]


def _genres(ranks: dict[str, Ints]) -> list[Ints]:
    return draws.several(ranks["genres"], [ranks[slot] for slot in _GENRE_SLOTS])


def _people(ranks: dict[str, Ints]) -> tuple[list[Ints], list[Ints], list[Ints]]:
    """The ids, below 2**24, of a song's artists, composers and lyricists."""
    artists = draws.several(ranks["artists"], [ranks[slot] for slot in _ARTIST_SLOTS])
    others = [[ranks["composer"]], [ranks["lyricist"]]]
    numbered = [[draws.ids(rank, (1 << 24) - 1) for rank in people] for people in (artists, *others)]
    return numbered[0], numbered[1], numbered[2]


def _names(people: list[Ints]) -> list[Text]:
    """A field of names with '|' between them, quoted if one of them has a comma or a quote in it."""
    parts: list[Text] = []
    needed: Mask = np.zeros(people[0].size, bool)
    for slot, person in enumerate(people):
        name, special = draws.name(person)
        parts += [draws.where(person > 0, "|"), *name] if slot else name
        needed |= special
    return draws.quoted(parts, needed)


def _isrc(ranks: dict[str, Ints]) -> list[Text]:
    """Country, three letters of the registrant, two digits of the year, five of the recording."""
    present = ranks["country"] > 0
    drawn = ranks["recording"] - 1
    code = [_LETTERS[drawn // 26**place % 26] for place in range(3)]
    year = _YEARS[(drawn % 19 - 2) % 100]
    parts = [*code, year, draws.decimal(10_000 + drawn // 26**3 % 90_000, present)]
    shown = [part if index == 4 else _kept(part, present) for index, part in enumerate(parts)]
    return [_COUNTRIES[ranks["country"]], *shown]


def _kept(text: Text, present: Mask) -> Text:
    kept = text.copy()
    kept[~present] = np.void(b"\0" * text.dtype.itemsize)
    return kept


def _genre(ranks: Ints) -> Text:
    return draws.decimal(95 + 6 * draws.ids(ranks, _GENRES), ranks > 0, 4)


def _date(first_year: int, ranks: Ints) -> Text:
    month, day = ranks // 28 % 12 + 1, ranks % 28 + 1
    return draws.decimal((first_year + ranks // 336) * 10_000 + month * 100 + day, ranks > 0)


def _number(values: Ints) -> Text:
    return draws.decimal(values, values >= 0)


def _id(values: Ints) -> Text:
    return draws.decimal(values, values > 0)


def _seen(world: World, name: str) -> Ints:
    return 1 + np.flatnonzero(world.seen[name][1:])


def _header(*names: str) -> bytes:
    return (",".join(names) + "\n").encode()


_GENRES = 344
_COLUMNS = (
    Column("msno", 25_961, rare=0.003),
    Column("song_id", 53_289, rare=0.12),
    Column("source_system_tab", 8, missing=0.003),
    Column("source_screen_name", 19, missing=0.056, exponent=0.8),
    Column("source_type", 12, missing=0.003, exponent=0.8),
    Column("city", 21, of="msno"),
    Column("bd", 99, missing=0.4, of="msno", exponent=0.8),
    Column("gender", 2, missing=0.4, of="msno", exponent=0.2),
    Column("registered_via", 5, of="msno"),
    Column("registered", 13 * 336 - 1, of="msno", exponent=0.0),
    Column("expires", 3 * 336 - 1, of="msno", exponent=0.0),
    Column("listed", 1, missing=0.001, of="song_id"),
    Column("length", 240_000, of="song_id", exponent=0.0),
    Column("genres", 4, missing=0.016, of="song_id", exponent=3.0),
    *(Column(slot, _GENRES, of="song_id") for slot in _GENRE_SLOTS),
    Column("artists", 4, of="song_id", exponent=3.0),
    *(Column(slot, 11_974, rare=0.01, of="song_id") for slot in _ARTIST_SLOTS),
    Column("composer", 30_000, missing=0.23, of="song_id"),
    Column("lyricist", 20_000, missing=0.41, of="song_id"),
    Column("language", 10, of="song_id"),
    Column("title", 1 << 23, of="song_id", exponent=0.0),
    Column("country", 78, missing=0.08, of="song_id"),
    Column("recording", 26**3 * 90_000, of="song_id", exponent=0.0),
)


def _recipe(real: str, files: dict[str, Callable[[World], Iterable[bytes]]]) -> Recipe:
    return Recipe(
        world="kkbox",
        real=real,
        rows=5_901_932,
        threshold=10,
        columns=_COLUMNS,
        effects=("source_system_tab", "source_screen_name", "source_type", "msno", "song_id", "language"),
        pair=("source_type", "city"),
        rates=(0.504,),
        files=files,
    )


WSDM = _recipe(
    "the KKBox data of the WSDM Cup 2018",
    {
        "train.csv": _events,
        "members.csv": _members,
        "songs.csv": _songs,
        "song_extra_info.csv": _song_extra_info,
    },
)
X1 = _recipe("RecZoo's KKBox_x1", {f"{name}.csv": _split(name) for name in ("train", "valid", "test")})
