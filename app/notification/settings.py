"""What the environment says about queue and mail."""

import os
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.kit.errors import ConfigurationError

_SECRETS_DIR = "/run/secrets/tradestack"


class NotificationSettings(BaseSettings):
    """Settings of the role `notification`, beside those that every role has."""

    model_config = SettingsConfigDict(env_prefix="APP_", extra="ignore", frozen=True)

    queue_url: str | None = Field(default=None, pattern=r"^https?://.+/.+")
    """URL of the SQS queue."""
    mail_url: str = Field(
        default="log://", pattern=r"^(log://|ses://[a-z0-9-]+|smtps?://([^:@/]+@)?[^:@/]+(:\d+)?)$"
    )
    """`log://` writes mails to the log only, `ses://<region>` sends them through SES, `smtp://[user@]host[:port]`
    through a server with STARTTLS where it offers that, `smtps://…` with TLS from the start."""
    mail_from: str = Field(default="Tradestack <no-reply@example.com>", pattern=r"^[^\r\n]*@[^\r\n]*$")
    """Sender of every mail."""
    mail_password: SecretStr | None = None
    """Password of the user in `mail_url`; a file `app_mail_password` in APP_SECRETS_DIR."""

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Read the environment; `overrides` win over it.

        Raises:
            ConfigurationError: names every variable that is wrong or missing.
        """
        secrets = Path(os.environ.get("APP_SECRETS_DIR", _SECRETS_DIR))
        try:
            settings = cls(_secrets_dir=secrets if secrets.is_dir() else None, **overrides)  # type: ignore[arg-type]
        except ValidationError as error:
            problems = (f"APP_{str(e['loc'][0]).upper()}={e['input']!r}: {e['msg']}" for e in error.errors())
            raise ConfigurationError("\n".join(problems)) from None
        if settings.queue_url is None:
            raise ConfigurationError(
                "APP_QUEUE_URL is not set: give the URL of an SQS queue, such as "
                "https://sqs.us-east-1.amazonaws.com/123456789012/tradestack-dev-notification"
            )
        return settings
