"""What a method of knowledge transfer is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import jax

from ektf_jax import losses
from ektf_jax.blend import Predictor
from ektf_jax.ensemble import Ensemble, Prediction

Loss = tuple[jax.Array, losses.Terms]


class TeacherOutputs(NamedTuple):
    """What pre-trained teachers say about a batch.

    Logits [M, B] of M teachers in evaluation mode, and per teacher a hidden state [B, H] or None.
    """

    logits: jax.Array
    hidden: tuple[jax.Array | None, ...]


class Teacher(NamedTuple):
    """A finished run that a method learns from: its directory, its model, its students' arguments in full."""

    where: str
    model: Predictor
    students: Mapping[str, Any]


class Method:
    """A method of knowledge transfer: a frozen dataclass, whose fields are its options (`keys.key`).

    It is called with a prediction, labels [B] and, where teachers are asked, `TeacherOutputs`, and returns
    its loss, a scalar, and `losses.Terms`. Where the rows of a dataset have weights it gets them too, as
    `sample_weights` [B] (`losses`); a method that does not take these cannot be trained on such a dataset.
    What else it can say of itself has a default: it learns from no finished runs, trains the ensemble as it
    is, and is stopped by the AUC of the ensemble.
    """

    # At K = 1 it does nothing: the students learn from each other.
    needs_peers: ClassVar[bool] = False
    # Its loss is that of the fused prediction; all others see the students alone, whom a fusion other than
    # the mean does not reach.
    of_the_fused: ClassVar[bool] = False
    # How many finished runs it learns from, at least and at most.
    least_teachers: ClassVar[int] = 0
    most_teachers: ClassVar[int] = 0
    # Whether a run starts from its teacher's weights, which those of config.train.init_from would replace.
    starts_from_teacher: ClassVar[bool] = False
    # What it monitors on validation data instead of the AUC, where `monitored` tells it of each row.
    monitors: ClassVar[str | None] = None

    def __call__(self, *args: Any, **kwargs: Any) -> Loss:
        raise NotImplementedError

    def check(self, num_students: int) -> None:
        """Raise ValueError where options and students do not go together. Tries the loss on two rows."""
        shapes: Any = [jax.ShapeDtypeStruct(shape, "float32") for shape in ((num_students, 2), (2,))]
        jax.eval_shape(self, Prediction(*shapes), shapes[1])

    def make_model(
        self, ensemble: Ensemble, teachers: Sequence[Callable[[], Predictor]], key: jax.Array
    ) -> Any:
        """Make what is trained and saved of an untrained ensemble. Each of `teachers` makes one's shapes."""
        return ensemble

    def ensemble(self, model: Any) -> Ensemble:
        """Return what predicts, of what `make_model` made."""
        return model

    def start(self, model: Any, students: Mapping[str, Any], teachers: Sequence[Teacher]) -> None:
        """Give an untrained model what it starts from. Raises InputError for teachers that do not suit it."""

    def hidden_wanted(self, model: Any) -> Sequence[bool] | None:
        """Return for each teacher whether steps want its hidden state; None where they ask no teacher."""
        return None

    def monitored(self, prediction: Any, outputs: TeacherOutputs) -> jax.Array:
        """Return what has to fall, [B], where `monitors` names it."""
        raise NotImplementedError
