"""iPinYou as RecZoo's iPinYou_x1 has it: train.csv and test.csv with header, 16 fields."""

from collections.abc import Callable, Iterator

from ektf_jax.data.generators import draws
from ektf_jax.data.generators.draws import Ints, Text
from ektf_jax.data.generators.world import Column, Recipe, World

_TRAIN_SHARE = 15_395_258, 19_495_974  # of the real rows
_SYSTEMS = ("windows", "ios", "mac", "android", "linux", "other")
_BROWSERS = ("chrome", "ie", "safari", "firefox", "theworld", "maxthon", "other")
_AGENTS = [f"{system}_{browser}" for system in _SYSTEMS for browser in _BROWSERS][:40]
# Columns of few values, the most frequent first.
_WORDS = {
    "weekday": draws.choices("0|1|2|3|4|5|6"),
    "hour": draws.choices("|".join(f"{hour:02}" for hour in (*range(9, 24), *range(9)))),
    "adexchange": draws.choices("2|1|3|null|4"),
    "slotwidth": draws.choices(
        "300|250|728|950|336|1000|468|160|120|200|960|640|760|320|610|360|180|970|240|980|600"
    ),
    "slotheight": draws.choices("250|90|200|60|280|600|300|160|100|120|50|150|240|580"),
    "slotvisibility": draws.choices(
        "2|0|1|255|FirstView|SecondView|ThirdView|FourthView|FifthView|OtherView|Na"
    ),
    "slotformat": draws.choices("0|1|5|Na"),
    "advertiser": draws.choices("1458|3358|3386|3427|3476|2259|2261|2821|2997"),
    "useragent": draws.choices("|".join(_AGENTS)),
    "slotprice": draws.choices("0|1-10|11-50|51-100|101+"),
}


def _few(name: str, exponent: float = 0.8) -> Column:
    return Column(name, len(_WORDS[name]) - 1, exponent=exponent)


_COLUMNS = (
    _few("weekday", 0.0),
    _few("hour", 0.5),
    Column("IP", 585_531, rare=0.02),
    Column("region", 35),
    Column("city", 370),
    _few("adexchange"),
    Column("domain", 28_621, missing=0.02, rare=0.0005),
    Column("slotid", 50_905, rare=0.0005),
    *(_few(name) for name in ("slotwidth", "slotheight", "slotvisibility", "slotformat")),
    Column("creative", 131),
    *(_few(name) for name in ("advertiser", "useragent", "slotprice")),
)


def _split(split: str) -> Callable[[World], Iterator[bytes]]:
    def lines(world: World) -> Iterator[bytes]:
        yield (",".join(["click", *(column.name for column in _COLUMNS)]) + "\n").encode()
        cut = max(1, world.rows * _TRAIN_SHARE[0] // _TRAIN_SHARE[1])
        for labels, ranks in world.chunks(*((0, cut) if split == "train" else (cut, world.rows))):
            columns = [[draws.decimal(labels, labels >= 0, digits=1)]]
            columns += [_text(world, name, ranks[name]) for name in ranks]
            yield draws.lines(columns, ",")

    return lines


def _text(world: World, name: str, ranks: Ints) -> list[Text]:
    if name in _WORDS:
        return [_WORDS[name][ranks]]
    present = ranks > 0
    ids = draws.ids(ranks, world.size(name))
    if name == "IP":  # its last byte is masked
        octets = draws.table([f"{octet}." for octet in range(256)])
        address = draws.ids(ranks, 1 << 24) - 1
        return [*(octets[address >> shift & 255] for shift in (16, 8, 0)), draws.where(present, "*")]
    if name in ("domain", "creative"):
        streams = [draws.key("ipinyou", name, part) for part in range(4)]
        return [draws.hexadecimal(stream, ids) for stream in streams]
    if name == "slotid":
        return [
            draws.where(present, "mm_100"),
            draws.decimal(ids % 97, present, 4),
            draws.where(present, "_"),
            draws.decimal(ids, present),
        ]
    return [draws.decimal(ids, present, 4)]


X1 = Recipe(
    world="ipinyou",
    real="RecZoo's iPinYou_x1",
    rows=15_395_258,
    threshold=2,
    columns=_COLUMNS,
    effects=(
        "advertiser",
        "slotvisibility",
        "slotformat",
        "useragent",
        "adexchange",
        "slotwidth",
        "creative",
    ),
    pair=("advertiser", "hour"),
    rates=(0.0007,),
    files={"train.csv": _split("train"), "test.csv": _split("test")},
    spread=1.8,
)
