"""Settings of one role, beside those that every role has."""

from typing import Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.kit.errors import ConfigurationError


class RoleSettings(BaseSettings):
    """Parent of them: variables of the environment with the prefix of the class."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the environment; `overrides` win over it.

        Raises:
            ConfigurationError: names every variable that is wrong.
        """
        try:
            return cls(**overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            told = (f"{cls._variable(e['loc'])}: {e['msg']}" for e in error.errors())
            raise ConfigurationError("\n".join(told)) from None

    @classmethod
    def _variable(cls, place: tuple[int | str, ...]) -> str:
        """The variable that an error is about; a field with a name of its own is told by that name."""
        name = ".".join(str(part) for part in place)
        return name if name.isupper() else f"{cls.model_config['env_prefix']}{name.upper()}"
