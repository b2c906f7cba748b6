"""KDD Cup 2012, track 2: training.txt and userid_profile.txt, both tab-separated without header."""

from collections.abc import Iterator

import numpy as np

from ektf_jax.data.generators import draws
from ektf_jax.data.generators.world import Column, Recipe, World

_IDS = ("QueryID", "KeywordID", "TitleID", "DescriptionID", "UserID")


def _training(world: World) -> Iterator[bytes]:
    sizes = {name: world.size(name) for name in ("DisplayURL", "AdID", "AdvertiserID", *_IDS)}
    for labels, ranks in world.chunks(0, world.rows):
        # A row sums up impressions: now and then one of several has more than one click.
        clicks = labels * (1 + ((ranks["Impression"] > 2) & (ranks["QueryID"] % 4 == 0)))
        ids = {name: draws.ids(ranks[name], size) for name, size in sizes.items()}
        columns = [
            clicks,
            ranks["Impression"],
            *(ids[name] for name in ("DisplayURL", "AdID", "AdvertiserID")),
            ranks["Depth"],
            np.minimum(ranks["Position"], ranks["Depth"]),
            *(ids[name] for name in _IDS),
        ]
        yield draws.lines([[draws.decimal(column, column >= 0)] for column in columns], "\t")


def _profiles(world: World) -> Iterator[bytes]:
    """Of the users that training.txt has, less user 0, which stands for unknown, and those without one."""
    size = world.size("UserID")
    for ranks in world.described("UserID", 1 + np.flatnonzero(world.seen["UserID"][1:])):
        known = ranks["profile"] > 0
        columns = (draws.ids(ranks["UserID"], size), ranks["Gender"] % 3, ranks["Age"])
        yield draws.lines([[draws.decimal(column[known], column[known] >= 0)] for column in columns], "\t")


KDD12 = Recipe(
    world="kdd12",
    real="track 2 of the KDD Cup 2012",
    rows=113_096_830,
    threshold=10,
    columns=(
        Column("Impression", int(np.exp(90**0.5)), exponent=2.0, octaves=True),  # 89 buckets, from 1 on
        Column("DisplayURL", 22_590),
        Column("AdID", 280_096, rare=0.003),
        Column("AdvertiserID", 14_415),
        Column("Depth", 3, exponent=0.5),
        Column("Position", 3),
        Column("QueryID", 997_504, rare=0.16),
        Column("KeywordID", 358_325, rare=0.007),
        Column("TitleID", 762_414, rare=0.022),
        Column("DescriptionID", 614_454, rare=0.017),
        Column("UserID", 1_618_169, missing=0.12, rare=0.15),
        Column("profile", 1, missing=0.06, of="UserID"),
        Column("Gender", 3, of="UserID", exponent=0.5),
        Column("Age", 6, of="UserID", exponent=0.5),
    ),
    effects=("Impression", "DisplayURL", "AdvertiserID", "Depth", "Gender", "Age"),
    pair=("Depth", "AdvertiserID"),
    rates=(0.045,),
    files={"training.txt": _training, "userid_profile.txt": _profiles},
)
