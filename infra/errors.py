"""Errors that a person is meant to read."""


class TradestackError(Exception):
    """A failure with its cause and, where one is known, what to do about it.

    The command line prints it without a traceback and exits with 1.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
