"""The one exception a user can cause."""


class InputError(ValueError):
    """Bad input: a raw file, an encoded dataset, a config, or a working directory that cannot be used.

    The message names the file, line, field and value, and says what to do. The command lines print it
    and exit with status 2; everything else that is raised is a bug of ours.
    """
