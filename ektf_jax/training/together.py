"""Lead runs to their ends: one, or several that share a program and differ in seed, learning rate and L2."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from ektf_jax.config import Config
from ektf_jax.data.schema import Schema
from ektf_jax.errors import InputError
from ektf_jax.training import build, compiler, residence, stopping
from ektf_jax.training.residence import Block, OnDevices, Splits
from ektf_jax.training.training import Training

# A run from its first block to its result. It yields what it wants to be trained on next and is sent, once
# that is done, what says whether a signal asks to stop.
Life = Generator[Block, Callable[[], int], dict[str, Any]]
Asked = tuple[Training, Block]


def recipe(config: Config) -> str | None:
    """What runs that can be trained together have in common; None for one that is trained alone.

    Alone are runs with teachers, on generated data, which each has for itself, and on several devices.
    """
    if config.transfer.teachers or not config.data.path or jax.device_count() > 1:
        return None
    common = replace(
        config,
        seed=0,
        train=replace(config.train, learning_rate=1.0, init_from=()),
        embedding=replace(config.embedding, l2=0.0),
    )
    return json.dumps(common.to_dict(), sort_keys=True, allow_nan=False)


def room(config: Config) -> int:
    """How many runs of a recipe half of the memory holds, a device's or on a CPU the machine's; at least 1.

    A run is its parameters, their gradient, Adam's moments and, if it has one, the average of the weights.
    """
    model = nnx.eval_shape(partial(build.make_model, config, build.open_schema(config), jax.random.key(0)))
    parameters = jax.tree.leaves(nnx.state(model, nnx.Param))
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in parameters) * (4 + (config.train.ema > 0))
    return max(1, _memory() // 2 // needed)


def _memory() -> int:
    here = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return residence.memory_of(jax.local_devices()[0]) or here


def sharing_rows() -> Callable[..., OnDevices]:
    """Make what stands for `residence.make`: the rows lie on the devices, once for all runs."""
    first: list[OnDevices] = []

    def make(config: Config, mesh: Mesh, schema: Schema, splits: Splits, *rest: Any) -> OnDevices:
        residence.check_room(mesh, schema, splits)
        made = OnDevices(config, mesh, schema, splits, *rest)
        first.append(made)
        made.resident = first[0].resident
        return made

    return make


class Together:
    """The steps of runs with one `recipe`, whose rows are those of `sharing_rows`.

    `width` runs at most are one dispatch, over a leading axis. More are several, and where fewer are left,
    powers of two: programs are few, and none computes what nobody reads.
    """

    def __init__(self, runs: Sequence[Training], width: int):
        first, self._width = runs[0], width
        for run in runs:
            run.predict = first.predict
            run.counts_itself = False
        assert isinstance(first.rows, OnDevices)
        self._rows: OnDevices = first.rows
        options = compiler.options(first.config.ensemble.matmul_dtype)
        batch_size, most = first.config.data.batch_size, self._rows.most
        self._steps = residence.make_steps(first.advance_with_l2, first.mesh, batch_size, most, options)
        self._compiled: set[tuple[int, int]] = set()

    def take(self, asked: Sequence[tuple[Training, Block]]) -> None:
        """Train runs that have taken equally many steps, each on its block."""
        while asked:
            width = min(self._width, 1 << (len(asked).bit_length() - 1))
            self._dispatch(asked[:width])
            asked = asked[width:]

    def _dispatch(self, asked: Sequence[tuple[Training, Block]]) -> None:
        program = len(asked), asked[0][1].rows
        compiles = program not in self._compiled
        self._compiled.add(program)
        began = time.perf_counter()
        found = self._rows.train_together(
            self._steps,
            [run.carry for run, _ in asked],
            [np.float32(run.config.embedding.l2) for run, _ in asked],
            [block for _, block in asked],
            [run.rates_of(block) for run, block in asked],
        )
        jax.block_until_ready(found)
        share = (time.perf_counter() - began) / len(asked)
        for (run, block), (carry, metrics) in zip(asked, found, strict=True):
            run.took(block, carry, metrics)
            run.charge(block, share, compiles)


def lead(lives: Sequence[tuple[Training, Life]], take: Callable[[Sequence[Asked]], None]) -> list[Any]:
    """Lead runs to their ends, by dispatches of those with the fewest steps; returns results, or exceptions.

    `take` trains runs, each on the block that it asked for. A signal that asks to stop is passed on to all.
    """
    ends: list[Any] = [None] * len(lives)
    asked: dict[int, Block] = {}

    def go_on(index: int, asks: Callable[[Life], Block]) -> None:
        try:
            asked[index] = asks(lives[index][1])
        except StopIteration as end:
            ends[index] = end.value
        except (InputError, stopping.Stopped) as error:
            ends[index] = error

    with contextlib.ExitStack() as stack:
        for _, life in lives:
            stack.callback(life.close)
        for index in range(len(lives)):
            go_on(index, next)
        requested = stack.enter_context(stopping.requests())
        while asked:
            least = min(lives[index][0].progress.step for index in asked)
            now = [index for index in asked if lives[index][0].progress.step == least]
            take([(lives[index][0], asked.pop(index)) for index in now])
            for index in now:
                go_on(index, lambda life: life.send(requested))
    return ends
