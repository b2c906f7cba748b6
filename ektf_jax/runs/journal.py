"""The journal of a search, Optuna's file that several workers append to."""

import fcntl
from pathlib import Path

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage

from ektf_jax.errors import InputError, cause
from ektf_jax.files import parse_json

REMEDY = "restore it, or search in another --workdir"


def opened(path: Path) -> JournalStorage:
    """Open a journal, or begin one. Raises InputError, naming file and line, for one that is damaged."""
    if path.exists():
        _check_lines(path)
    backend = JournalFileBackend(str(path), lock_obj=_Lock(path))
    try:
        return JournalStorage(backend)
    except OSError:
        raise
    except Exception as error:  # whatever Optuna trips over
        raise InputError(f"{path}: is no journal of a search ({cause(error)}); {REMEDY}") from None


def _check_lines(path: Path) -> None:
    """Raise InputError for a line that is no JSON; what a killed writer left of the last is none yet."""
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            entry = parse_json(line.decode())
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: is not JSON ({cause(error)}); {REMEDY}") from None
        if not isinstance(entry, dict):
            raise InputError(f"{path}:{number}: is not an object; {REMEDY}")


class _Lock(JournalFileOpenLock):
    """Who writes the journal, by a lock that ends with its process; Optuna's own would stay for 30 seconds.

    What a killed writer left of a line is cut off, or the next one would be appended to it.
    """

    def __init__(self, journal: Path):
        super().__init__(str(journal))
        self._journal = journal

    def acquire(self) -> bool:
        self._file = self._journal.open("r+b")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        written = self._file.read()
        self._file.truncate(written.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._file.close()
