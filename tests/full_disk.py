"""A disk without room, as files see it."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """The kernel refuses what goes past a limit of file size just as it does on a full disk: an OSError.

    No fixture: pytest writes to its own output between a test and its fixtures' end.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
