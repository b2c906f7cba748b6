"""A run in training: all that changes while it goes on, and the steps that change it."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.typing import ArrayLike
from tqdm import tqdm

from ektf_jax import sharding, transfer
from ektf_jax.config import Config
from ektf_jax.data import encoded, loader
from ektf_jax.data.loader import Batch
from ektf_jax.data.schema import Schema
from ektf_jax.ensemble import count_parameters
from ektf_jax.errors import InputError
from ektf_jax.summary import flops_per_sample
from ektf_jax.training import (
    build,
    checkpoint,
    compiler,
    finite,
    optimizer,
    residence,
    schedule,
    start,
    teachers,
    vectors,
)
from ektf_jax.training.evaluate import embedding_use, evaluate_logits, predict_batches
from ektf_jax.training.progress import SHAPE as PROGRESS
from ektf_jax.training.progress import Progress
from ektf_jax.training.residence import Block, Carry, MakeRows
from ektf_jax.training.step import (
    StepMetrics,
    TrainState,
    TrainStep,
    from_saved_form,
    init_state,
    init_state_on,
    make_predict,
    make_train_step,
    saved_form,
    transformation,
)

if TYPE_CHECKING:
    import orbax.checkpoint as ocp

Weights = tuple[nnx.State, nnx.State]


class Training:
    """A run from its config to its best weights. What listens to it (`listeners`) may read all of it.

    `train_step` and `predict` are those of `ektf_jax.training.step`; whoever measures may wrap them before
    the first step.
    """

    def __init__(
        self,
        config: Config,
        workdir: Path,
        mesh: Mesh,
        schema: Schema,
        splits: dict[str, encoded.Split],
        make_rows: MakeRows = residence.make,
    ):
        self.config, self.workdir, self.mesh, self.schema, self.splits = config, workdir, mesh, schema, splits
        self.method = transfer.read(config.transfer)
        model_key, dropout_key = jax.random.split(jax.random.key(config.seed))
        make_model = partial(build.make_model, config, schema, model_key)
        shapes = nnx.eval_shape(make_model)
        self.parameters = count_parameters(shapes)
        self.flops_per_sample = flops_per_sample(shapes, schema.num_fields)
        self._optimizer = made = optimizer.read(config.train)
        self.teach: teachers.Teach | None = None
        if config.transfer.teachers:
            model, self.teach = teachers.make_model(config, workdir, schema, model_key, mesh)
            graphdef, state = init_state(model, made, dropout_key)
            state = jax.device_put(state, sharding.state_shardings(state, mesh))
        else:
            graphdef, state = init_state_on(mesh, partial(make_model, mesh=mesh), made, dropout_key)
        self.state, self._graphdef = state, graphdef
        self.average: Weights | None = None
        if config.train.ema:
            weights = state.parameters, state.statistics
            self._update_average = optimizer.make_average(weights, config.train.ema)
            self.average = jax.tree.map(jnp.copy, weights)
        if schema.has_vectors and not config.transfer.teachers:  # who has some has given them
            self._begin_with(*vectors.put(config, workdir, schema, (state.parameters, state.statistics)))
        options = compiler.options(config.ensemble.matmul_dtype)
        self.predict = make_predict(graphdef, mesh=mesh, compiler_options=options)
        self.rows = make_rows(config, mesh, schema, splits, self._advance, options)
        on_rows: Any = {"mesh": mesh, "compiler_options": self.rows.part_options}
        self._make_step = partial(make_train_step, graphdef, made, self.method, **on_rows)
        self.train_step = self._make_step(l2=config.embedding.l2)
        self.steps_per_epoch = loader.batches_per_epoch(len(splits["train"].labels), config.data.batch_size)
        self.rates = optimizer.rates(config.train, self.steps_per_epoch * config.train.max_epochs)
        self.progress = Progress(schedule.Plateau(config.train.learning_rate))
        self.learning_rate = config.train.learning_rate
        self._of_epoch = np.zeros(0, np.float32)
        self._pending: list[finite.Pending] = []
        self._compiled: set[int] = set()  # sizes of batches
        self._began = self._clock = time.perf_counter()
        self.counts_itself = True

    @property
    def epoch(self) -> int:
        """Whole epochs so far."""
        return self.progress.step // self.steps_per_epoch

    @property
    def ended(self) -> bool:
        """Whether there is no epoch left to train, or no progress to hope for."""
        return self.epoch >= self.config.train.max_epochs or self.progress.plateau.stopped

    @property
    def weights(self) -> Weights:
        """What the run is evaluated by and keeps: the weights or, where there is one, their average."""
        return (self.state.parameters, self.state.statistics) if self.average is None else self.average

    @property
    def samples_per_second(self) -> float:
        """Of all steps but those that compiled or, where there are no others, with the compilation."""
        progress = self.progress
        if progress.rows:
            return progress.rows / progress.seconds
        return self.epoch * len(self.splits["train"].labels) / progress.compiling

    @property
    def compiles(self) -> bool:
        """Whether the next step is the first of this process."""
        return not self._compiled

    def start_epoch(self) -> None:
        """Begin or go on with an epoch: its learning rates, and the clock."""
        first = self.epoch * self.steps_per_epoch
        self._of_epoch = self.rates(first, first + self.steps_per_epoch, self.progress.plateau.learning_rate)
        self._clock = time.perf_counter()

    def next_block(self, most: int) -> Block:
        """Return the steps that come next, at most so many and one before anything is compiled."""
        wanted = time.perf_counter()
        block = self.rows.next(self.progress.step, most if self._compiled else 1)
        self._waited = time.perf_counter() - wanted
        return block

    def rates_of(self, block: Block) -> np.ndarray:
        """Return the learning rates of the steps of a block that comes next."""
        first = self.progress.step % self.steps_per_epoch
        return self._of_epoch[first : first + block.steps]

    def take(self, block: Block) -> None:
        """Train on a block in one dispatch. Does not wait for the device, but for a step that compiles."""
        if compiles := block.rows not in self._compiled:
            jax.block_until_ready(self.state)
            self._count_seconds()
        taught = None if self.teach is None else self.teach.weights
        self.took(block, *self.rows.train(self.carry, taught, block, self.rates_of(block)))
        if compiles:
            jax.block_until_ready(self.state)
            self.progress.compiling += time.perf_counter() - self._clock
            self._clock = time.perf_counter()
        else:
            self.progress.rows += block.steps * block.rows
            self.progress.waited += self._waited

    @property
    def carry(self) -> Carry:
        """What steps change and donate."""
        return self.state, self.average

    def took(self, block: Block, carry: Carry, metrics: StepMetrics) -> None:
        """Have what a dispatch of a block gave."""
        self.state, self.average = carry
        self._pending.append((self.progress.step + 1, block.steps, metrics))
        self._compiled.add(block.rows)

    def charge(self, block: Block, seconds: float, compiles: bool) -> None:
        """Count a run's share of the seconds of a dispatch, where its time is counted by others."""
        if compiles:
            self.progress.compiling += seconds
        else:
            self.progress.seconds += seconds
            self.progress.rows += block.steps * block.rows

    def count(self, block: Block) -> Iterator[int]:
        """Yield after each step of a block that was taken, as if it had been alone."""
        for rate in self.rates_of(block):
            self.progress.step += 1
            self.learning_rate = float(rate)
            yield self.progress.step

    def _advance(
        self, carry: tuple[TrainState, Weights | None], taught: Any, batch: Batch, rate: ArrayLike
    ) -> tuple[tuple[TrainState, Weights | None], StepMetrics]:
        """Take a step: what the teachers, with these weights, say of the batch, the step, the average."""
        outputs = () if self.teach is None else (self.rows.part(self.teach.of)(taught, batch),)
        return self._step(self.train_step, carry, batch, rate, *outputs)

    def advance_with_l2(
        self, carry: Carry, l2: jax.Array, batch: Batch, rate: ArrayLike
    ) -> tuple[Carry, StepMetrics]:
        """Take a step of any run that differs in seed, learning rate and L2 alone, and has no teachers."""
        return self._step(self._make_step(l2=l2), carry, batch, rate)

    def _step(
        self, step: TrainStep, carry: Carry, batch: Batch, rate: ArrayLike, *outputs: Any
    ) -> tuple[Carry, StepMetrics]:
        (state, average), part = carry, self.rows.part
        state, metrics = part(step)(state, batch, rate, *outputs)
        if average is not None:
            average = part(self._update_average)(average, (state.parameters, state.statistics), state.step)
        return (state, average), metrics

    def settle(self) -> dict[str, Any]:
        """Wait for the steps so far and return the terms of the newest; InputError if any is not finite."""
        with finite.ending(self.workdir):
            terms = finite.step_terms(self._pending)
        self._pending.clear()
        self._count_seconds()
        return terms

    def evaluate(self, split: str) -> dict[str, Any]:
        """Return the metrics of a split; InputError if any is not finite."""
        with finite.ending(self.workdir, f"evaluation of {split} at step {self.progress.step}: "):
            batches = self.rows.evaluation_batches(split)
            logits = predict_batches(self.predict, *self.weights, batches)
            return evaluate_logits(self.splits[split], logits)

    def embedding_use(self) -> dict[str, Any]:
        """Return how much of their dimensions the embeddings use, by field. All processes take part."""
        ensemble = self.method.ensemble(nnx.merge(self._graphdef, *self.weights))
        return embedding_use(vectors.rows_read(ensemble.embedding), ensemble.read_columns(), self.schema)

    def end_epoch(self) -> dict[str, Any]:
        """Evaluate on validation data and update the plateau; returns the metrics."""
        train, valid = self.config.train, self.evaluate("valid")
        self.progress.plateau = schedule.update(
            self.progress.plateau,
            self._monitored(valid),
            self.epoch,
            patience=train.patience,
            decay=train.learning_rate_decay if optimizer.falls(train) else 1.0,
            min_learning_rate=train.min_learning_rate,
            min_delta=train.min_delta,
        )
        return valid

    def _monitored(self, valid: dict[str, Any]) -> float:
        """What has to rise: the AUC, or less of what the method monitors."""
        name = self.method.monitors
        if name is None or self.teach is None:
            return valid["ensemble"]["auc"]
        batches = self.rows.evaluation_batches("valid")
        valid[name] = teachers.monitored(self.method, self.predict, self.teach, *self.weights, batches)
        with finite.ending(self.workdir, f"evaluation of valid at step {self.progress.step}: "):
            finite.check({name: valid[name]})
        return -valid[name]

    def save(self, latest: "ocp.CheckpointManager") -> None:
        """Save all that the run needs to go on."""
        self._count_wall()
        checkpoint.save(latest, self.progress.step, self._tree(), self.progress.to_json())
        self._clock = time.perf_counter()

    def check_state(self) -> None:
        """Raise InputError where a weight or a moment is not finite."""
        with finite.ending(self.workdir, f"after step {self.progress.step}: "):
            finite.check_state(self._tree())

    def keep(self, best: "ocp.CheckpointManager") -> None:
        """Save the weights as the best so far, if they are."""
        if self.progress.plateau.improved:
            checkpoint.save(best, self.progress.step, self.weights, {"epoch": self.epoch})

    def restore(self, latest: "ocp.CheckpointManager", best: "ocp.CheckpointManager") -> None:
        """Go on from the newest checkpoint, if there is one, or start from what the config names.

        Raises InputError where the best weights are gone, or for runs that it cannot start from.
        """
        found = checkpoint.restore(latest, self._tree(), shape=PROGRESS, delete_damaged=True)
        if found is None:
            self._start()
            return
        saved, progress = found
        if self.average is not None:
            saved, self.average = saved
        self.state = from_saved_form(saved, self.state)
        step = int(self.state.step)
        rows = step // self.steps_per_epoch * len(self.splits["train"].labels)
        self.progress = Progress.from_json(progress, step, rows)
        self.rows.go_to(step)
        tqdm.write(f"{self.workdir}: going on after step {step}")
        kept = self.progress.plateau.best_epoch * self.steps_per_epoch
        if kept and kept not in best.all_steps():
            raise InputError(
                f"{best.directory}: no checkpoint {kept}, the best so far; restore it, or train again in"
                " another --workdir"
            )

    def _start(self) -> None:
        """Take the weights of the runs that it starts from, if there are any; the optimizer begins anew."""
        if not self.config.train.init_from:
            return
        weights = self.state.parameters, self.state.statistics
        model = nnx.merge(self._graphdef, *weights, copy=True)
        ensemble = self.method.ensemble(model)
        for line in start.take(ensemble, self.config, self.workdir, self.schema):
            tqdm.write(f"{self.workdir}: {line}")
        _, parameters, *rest = nnx.split(model, nnx.Param, ...)
        self._begin_with(parameters, rest[0])

    def _begin_with(self, parameters: nnx.State, statistics: nnx.State) -> None:
        """Take weights to begin with; the optimizer begins with them."""
        optimizer_state = jax.jit(
            transformation(self._optimizer, None).init,
            out_shardings=jax.tree.map(lambda leaf: leaf.sharding, self.state.optimizer),
        )(parameters)
        state = self.state._replace(parameters=parameters, statistics=statistics, optimizer=optimizer_state)
        # Steps donate their state: no buffer in it may be there twice.
        self.state = jax.tree.map(jnp.copy, state)
        if self.average is not None:
            self.average = jax.tree.map(jnp.copy, (self.state.parameters, self.state.statistics))

    def restore_best(self, best: "ocp.CheckpointManager") -> None:
        """Take the best weights back, to be evaluated."""
        step = self.progress.plateau.best_epoch * self.steps_per_epoch
        kept = checkpoint.restore(best, self.weights, step)
        assert kept is not None
        (parameters, statistics), _ = kept
        self.state, self.average = self.state._replace(parameters=parameters, statistics=statistics), None

    def wall_seconds(self) -> float:
        """Seconds of the run so far, over all its processes."""
        self._count_wall()
        return self.progress.wall

    def _tree(self) -> Any:
        """What a checkpoint holds."""
        saved = saved_form(self.state)
        return saved if self.average is None else (saved, self.average)

    def _count_seconds(self) -> None:
        now = time.perf_counter()
        if self.counts_itself:
            self.progress.seconds += now - self._clock
        self._clock = now

    def _count_wall(self) -> None:
        now = time.perf_counter()
        self.progress.wall += now - self._began
        self._began = now
