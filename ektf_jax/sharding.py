"""Many devices: a mesh of (data, student, table), and what of a run is split over which axis.

A batch is split by rows over `data`, a stack of students by copies over `student`, the embedding table and
its optimiser state by rows over `table`; all else is replicated. The compiler (JAX's SPMD partitioner)
inserts the communication, so that losses, gradients and BatchNorm statistics are those of the global batch:
a step means the same on every mesh.
"""

import os
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.typing import ArrayLike

from ektf_jax.data.encoded import Split
from ektf_jax.data.loader import Batch
from ektf_jax.errors import InputError, cause

DATA, STUDENT, TABLE = AXES = ("data", "student", "table")


def check_devices() -> None:
    """Raise InputError where JAX finds none of the devices that JAX_PLATFORMS names."""
    try:
        jax.devices()
    except Exception as error:  # an assertion, where a platform is known and has no device
        platforms = os.environ.get("JAX_PLATFORMS")
        raise InputError(
            f"JAX_PLATFORMS = {platforms!r}: JAX has no such device here ({cause(error)}); correct it or"
            " unset it"
        ) from None


def make_mesh(data: int = 1, student: int = 1, table: int = 1) -> Mesh:
    """A mesh over the first data * student * table devices; data = -1 takes all that the others leave.

    Raises ValueError where that is more devices than there are, or fewer than all of several processes.
    """
    devices = jax.devices()
    if data == -1:
        data = max(1, len(devices) // (student * table))
    wanted = data * student * table
    if wanted > len(devices):
        raise ValueError(
            f"mesh {data} x {student} x {table} needs {wanted} devices, here are {len(devices)}"
            f" ({devices[0].device_kind})"
        )
    if jax.process_count() > 1 and wanted < len(devices):
        raise ValueError(
            f"mesh {data} x {student} x {table} leaves out {len(devices) - wanted} of the devices of"
            f" {jax.process_count()} processes; data = -1 takes all"
        )
    return Mesh(np.array(devices[:wanted]).reshape(data, student, table), AXES)


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def path_name(path: tuple[Any, ...]) -> str:
    """A leaf's path in a state as one name: "parameters/embedding/table/value"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def is_table(name: str) -> bool:
    """Whether a leaf is the ensemble's embedding table or its moments, and not a table of a student's."""
    return "embedding/table" in name and "/students/" not in name


def vectors_of(name: str) -> int | None:
    """Which of an ensemble's pretrained fields a leaf is the vectors, or their moments, of; None: of none."""
    found = re.search(r"embedding/pretrained/(\d+)/vectors", name)
    return None if found is None or "/students/" in name else int(found[1])


def state_shardings(state: Any, mesh: Mesh) -> Any:
    """A sharding for every leaf of a training state (arrays or their shapes), by its path.

    The table goes by rows. A stack of students goes by copies where the axis divides their number, and is
    replicated where it does not: a group of one cannot be split. Kernels that members with adapters share
    have no axis of copies. An optimizer's state lies as what it belongs to, Adam's moments by rows or copies
    as well; what has another first axis, or none, is replicated.
    """

    names = {path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)}

    def divides(axis: str, leaf: Any) -> bool:
        return bool(leaf.ndim) and leaf.shape[0] % mesh.shape[axis] == 0

    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = path_name(path)
        if is_table(name) and divides(TABLE, leaf):
            return NamedSharding(mesh, PartitionSpec(TABLE))
        shared = "/kernel/" in name and name.replace("/kernel/", "/input_scale/") in names
        if "/students/" in name and not shared and divides(STUDENT, leaf):
            return NamedSharding(mesh, PartitionSpec(STUDENT))
        return replicated(mesh)

    return jax.tree_util.tree_map_with_path(place, state)


def batch_sharding(mesh: Mesh, rows: int) -> NamedSharding:
    """By rows over `data`; a batch that it does not divide, an epoch's last, lies whole on every device."""
    return NamedSharding(mesh, PartitionSpec(DATA) if rows % mesh.shape[DATA] == 0 else PartitionSpec())


def put(mesh: Mesh, array: ArrayLike) -> jax.Array:
    """An array with leading batch axis, whole in every process, on the devices of the mesh."""
    wanted = batch_sharding(mesh, np.shape(array)[0])
    if isinstance(array, jax.Array) and array.sharding == wanted:
        return array
    values = np.asarray(array)
    return jax.make_array_from_callback(values.shape, wanted, lambda index: values[index])


def gathered(array: jax.Array) -> np.ndarray:
    """The whole of an array that may lie in parts in several processes, each of which has to call this."""
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def make_gather(mesh: Mesh) -> Callable[[Split, np.ndarray], Batch]:
    """How the loader takes rows [B] of a split: on the devices, each process reading what its own hold.

    The loader calls it ahead of time in a thread of its own, which makes it the prefetch to the devices.
    """

    def gather(split: Split, rows: np.ndarray) -> Batch:
        sharding = batch_sharding(mesh, len(rows))
        # By construction of the mesh the rows of a process are contiguous.
        indices = sharding.addressable_devices_indices_map((len(rows),)).values()
        spans = [index[0].indices(len(rows)) for index in indices if index is not None]
        mine = rows[min(span[0] for span in spans) : max(span[1] for span in spans)]

        def place(values: np.ndarray) -> jax.Array:
            return jax.make_array_from_process_local_data(sharding, values, (len(rows), *values.shape[1:]))

        return jax.tree.map(lambda column: place(column[mine]), Batch(*split))

    return gather
