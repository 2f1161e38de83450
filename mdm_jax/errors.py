"""The error of everything that the caller can mend."""


class MdmError(ValueError):
    """A setting, a file or a combination of both that cannot work; the message says what to change.

    The command line prints the message as one line and exits with status 2. Whatever else is raised
    there is a bug of mdm_jax and keeps its traceback.
    """
