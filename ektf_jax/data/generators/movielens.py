"""MovieLens-1M in GroupLens's format. Every user and movie is listed; a user may rate a movie twice."""

from collections.abc import Iterator

import numpy as np

from ektf_jax.data.generators import draws
from ektf_jax.data.generators.draws import Ints, Text
from ektf_jax.data.generators.world import Column, Recipe, World

_USERS, _RATED, _MOVIES, _LAST = 6040, 3706, 3883, 3952  # movie ids have gaps, and some movies no rating
_FIRST_SECOND = 956_703_932
_SEXES = draws.choices("M|F")
_AGES = draws.choices("25|35|18|45|50|56|1")
_GENRES = draws.choices(
    "Drama|Comedy|Action|Thriller|Romance|Horror|Adventure|Sci-Fi|Children's|Crime|War|Documentary|Musical"
    "|Mystery|Animation|Fantasy|Western|Film-Noir"
)
_SLOTS = [f"genre {slot}" for slot in range(6)]


def _ratings(world: World) -> Iterator[bytes]:
    for labels, ranks in world.chunks(0, world.rows):
        columns = (
            draws.ids(ranks["UserID"], _USERS),
            draws.ids(ranks["MovieID"], _LAST),
            1 + labels,
            _FIRST_SECOND - 1 + ranks["timestamp"],
        )
        yield draws.lines([[_number(column, 12)] for column in columns], "::")


def _users(world: World) -> Iterator[bytes]:
    for ranks in world.described("UserID", _by_id(_USERS, _USERS)):
        columns = [
            _number(draws.ids(ranks["UserID"], _USERS)),
            _SEXES[ranks["Gender"]],
            _AGES[ranks["Age"]],
            _number(ranks["Occupation"] - 1),
            _number(9999 + ranks["zip code"]),
        ]
        yield draws.lines([[column] for column in columns], "::")


def _movies(world: World) -> Iterator[bytes]:
    for ranks in world.described("MovieID", _by_id(_MOVIES, _LAST)):
        movie = draws.ids(ranks["MovieID"], _LAST)
        title, _ = draws.name(draws.ids(movie, 1 << 24), "latin-1", plain=True)
        article = draws.where(movie % 4 == 0, ", The")
        year = [draws.where(movie > 0, " ("), _number(2001 - ranks["year"]), draws.where(movie > 0, ")")]
        genres = draws.several(ranks["genres"], [ranks[slot] for slot in _SLOTS])
        genre_names = draws.joined(genres, lambda genre: _GENRES[genre], "|")
        yield draws.lines([[_number(movie)], [*title, article, *year], genre_names], "::")


def _number(values: Ints, digits: int = 8) -> Text:
    return draws.decimal(values, values >= 0, digits)


def _by_id(count: int, last: int) -> Ints:
    """The ranks 1 to count, by rising id."""
    ranks = np.arange(1, count + 1)
    return ranks[np.argsort(draws.ids(ranks, last))]


ML1M = Recipe(
    world="ml1m",
    real="GroupLens's MovieLens-1M",
    rows=591_209,
    threshold=1,
    columns=(
        Column("UserID", _USERS, exponent=0.6),
        Column("MovieID", _RATED),
        Column("timestamp", 89_750_659, exponent=0.0),
        Column("Gender", 2, of="UserID"),
        Column("Age", 7, of="UserID"),
        Column("Occupation", 21, of="UserID", exponent=0.6),
        Column("zip code", 90_000, of="UserID", exponent=0.0),
        Column("year", 82, of="MovieID"),
        Column("genres", 6, of="MovieID", exponent=1.5),
        *(Column(slot, 18, of="MovieID", exponent=0.6) for slot in _SLOTS),
    ),
    effects=("UserID", "MovieID", "Occupation", "genre 0"),
    pair=("Age", "genre 0"),
    rates=(0.944, 0.836, 0.575, 0.226),  # of ratings of at least 2, 3, 4 and 5
    files={"ratings.dat": _ratings, "users.dat": _users, "movies.dat": _movies},
)
