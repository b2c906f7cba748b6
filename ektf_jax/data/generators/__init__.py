"""Raw files in the datasets' native formats, filled with synthetic data.

They have the real files' names, columns, cardinalities (those that the published vocabularies have at full
size) and, about, their missing rates; labels follow hidden effects of the values. Everything else is made up:
columns are independent of each other unless one describes another (a song's artist, a user's age). They serve
tests, benchmarks and whoever lacks the data; a file SYNTHETIC.txt beside them says what they are.
"""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from ektf_jax.data import rawfiles
from ektf_jax.data.generators import criteo, ipinyou, kdd12, kkbox, movielens
from ektf_jax.data.generators.world import Recipe, World
from ektf_jax.errors import InputError

DATASETS: dict[str, Recipe] = {
    "criteo": criteo.KAGGLE,
    "criteo_x4": criteo.X4,
    "ml1m": movielens.ML1M,
    "kdd12": kdd12.KDD12,
    "ipinyou": ipinyou.X1,
    "kkbox": kkbox.WSDM,
    "kkbox_x1": kkbox.X1,
}
NOTICE = rawfiles.SYNTHETIC
LEAST_ROWS = 10  # one for each tenth of a split


def write(
    dataset: str,
    directory: Path,
    rows: int,
    seed: int = 0,
    *,
    progress: Callable[[int], object] = lambda rows: None,
) -> list[Path]:
    """Writes the dataset's raw files and SYNTHETIC.txt into `directory` and returns their paths.

    `rows` over all splits; the same (dataset, rows, seed) gives the same bytes. `progress` is called with the
    number of rows after each chunk. No file appears before all are written. Raises InputError for arguments
    that cannot be met, a file that is there already, or a directory that cannot be written to.
    """
    if dataset not in DATASETS:
        raise InputError(f"dataset is {dataset!r}; it must be one of {', '.join(DATASETS)}")
    if rows < LEAST_ROWS:
        raise InputError(f"rows is {rows}; it must be at least {LEAST_ROWS}")
    if seed < 0:
        raise InputError(f"seed is {seed}; it must not be negative")
    recipe = DATASETS[dataset]
    names = [*recipe.files, NOTICE]
    _refuse_existing(directory, names)
    world = World(recipe, rows, seed, progress)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory, prefix=".generate-") as scratch:
            for name, write_lines in recipe.files.items():
                with Path(scratch, name).open("wb") as file:
                    file.writelines(write_lines(world))
            Path(scratch, NOTICE).write_text(notice(dataset, directory, rows, seed), encoding="utf-8")
            _refuse_existing(directory, names)
            for name in reversed(names):  # the notice first, so that no file is ever there without it
                Path(scratch, name).rename(directory / name)
    except OSError as error:
        raise InputError(
            f"{directory}: cannot be written to ({error.strerror or error}); choose another directory"
        ) from error
    return [directory / name for name in names]


def notice(dataset: str, directory: Path, rows: int, seed: int) -> str:
    """The text of SYNTHETIC.txt."""
    recipe = DATASETS[dataset]
    return (
        f"SYNTHETIC DATA, not {recipe.real}.\n\n"
        f"ektf-jax made {', '.join(recipe.files)}\nfrom random numbers, in that dataset's format. Every value"
        " is made up,\nand so is the signal in the labels: results on these files say nothing\nabout the real"
        " data.\n\n"
        f"dataset: {dataset}\nrows: {rows}\nseed: {seed}\n"
        f"command: ektf generate --dataset={dataset} --rows={rows} --seed={seed}"
        f" --out={directory}\n"
    )


def _refuse_existing(directory: Path, names: Iterable[str]) -> None:
    for name in names:
        if (directory / name).exists():
            raise InputError(f"{directory / name}: is there already; remove it or choose another directory")
