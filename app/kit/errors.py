"""Failures that the app tells apart."""


class ConfigurationError(Exception):
    """The environment does not say what a role needs; the message names the variable and what is allowed."""


class Unavailable(Exception):
    """A backing service does not answer now; the caller waits and tries again."""

    def __init__(self, service: str, cause: object) -> None:
        super().__init__(f"{service} is unavailable: {cause}")
        self.service = service
