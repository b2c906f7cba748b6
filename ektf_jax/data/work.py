"""Tasks that threads run ahead, and bars that show how far they are."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from ektf_jax.errors import InputError

if TYPE_CHECKING:
    from tqdm import tqdm

_WORKERS = 2  # beside polars's own threads

_Result = TypeVar("_Result")


def in_order(tasks: Iterator[Callable[[], _Result]]) -> Iterator[_Result]:
    """The results of tasks that threads run ahead, a few at a time; of several errors the first one's."""
    under_way: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        while True:
            try:
                task = next(tasks, None)
            except InputError:
                for earlier in under_way:
                    earlier.result()
                raise
            if task is None:
                break
            under_way.append(pool.submit(task))
            if len(under_way) > _WORKERS:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def bar(name: str, total: int, unit: str) -> "tqdm":
    """A bar that shows only where the output is a terminal."""
    from tqdm import tqdm  # only now: who encodes a few rows needs no bar

    return tqdm(total=total, desc=name, unit=unit, unit_scale=unit != "field", leave=False, disable=None)
