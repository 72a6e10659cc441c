"""Ways to send a mail."""

import asyncio
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any, Protocol
from urllib.parse import urlsplit

from app.kit import logs
from app.kit.errors import Unavailable
from app.notification.schemas import Mail, Undeliverable
from app.notification.settings import NotificationSettings

_SECONDS = 15.0
"""Longest time for one mail."""
_log = logs.get(__name__)


class Mailer(Protocol):
    """Sends mails."""

    async def send(self, mail: Mail) -> None:
        """Hand the mail over.

        Raises:
            Unavailable: not now; another attempt may succeed.
            Undeliverable: never.
        """


class LogMailer(Mailer):
    """Writes to the log that a mail would have been sent; its text stays out of it."""

    async def send(self, mail: Mail) -> None:
        """See `Mailer`."""
        _log.info("mail", id=mail.id, to=mail.to, subject=mail.subject)


class SmtpMailer(Mailer):
    """Sends through an SMTP server, one connection for each mail."""

    def __init__(self, url: str, sender: str, password: str | None) -> None:
        self._sender = sender
        self._url = urlsplit(url)
        self._password = password

    async def send(self, mail: Mail) -> None:
        """See `Mailer`."""
        import aiosmtplib

        try:
            await aiosmtplib.send(
                _message(mail, self._sender),
                hostname=self._url.hostname,
                port=self._url.port,
                username=self._url.username,
                password=self._password,
                use_tls=self._url.scheme == "smtps",
                # A password never goes over a connection that is not encrypted.
                start_tls=True if self._password and self._url.scheme == "smtp" else None,
                timeout=_SECONDS,
            )
        except aiosmtplib.SMTPRecipientsRefused as refused:
            reason = refused.recipients[0]
            if reason.code >= 500:
                raise Undeliverable(f"{mail.to} is refused: {reason.code} {reason.message}") from refused
            raise Unavailable("mail server", refused) from refused
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Unavailable("mail server", error) from error


class SesMailer(Mailer):
    """Sends through Amazon SES."""

    def __init__(self, client: Any, sender: str) -> None:
        self._client = client
        self._sender = sender

    async def send(self, mail: Mail) -> None:
        """See `Mailer`."""
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

        content = {"Raw": {"Data": _message(mail, self._sender).as_bytes()}}
        try:
            await asyncio.to_thread(
                self._client.send_email,
                FromEmailAddress=self._sender,
                Destination={"ToAddresses": [mail.to]},
                Content=content,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in ("MessageRejected", "BadRequestException"):
                raise Undeliverable(str(error)) from error
            raise Unavailable("SES", error) from error
        except BotoCoreError as error:
            raise Unavailable("SES", error) from error


def make_mailer(settings: NotificationSettings) -> Mailer:
    """The mailer of APP_MAIL_URL."""
    scheme, _, rest = settings.mail_url.partition("://")
    password = settings.mail_password.get_secret_value() if settings.mail_password else None
    match scheme:
        case "log":
            return LogMailer()
        case "ses":
            from app.notification.queue import aws_client

            return SesMailer(aws_client("sesv2", rest), settings.mail_from)
        case _:
            return SmtpMailer(settings.mail_url, settings.mail_from, password)


def _message(mail: Mail, sender: str) -> EmailMessage:
    message = EmailMessage()
    try:
        message["From"] = sender
        message["To"] = mail.to
        message["Subject"] = mail.subject
    except ValueError as error:  # a line end in a header would begin another one
        raise Undeliverable(f"mail {mail.id}: {error}") from error
    if not parseaddr(mail.to)[1]:
        raise Undeliverable(f"mail {mail.id}: {mail.to!r} is no address")
    message["Message-ID"] = f"<{mail.id.replace(':', '.')}@tradestack>"
    message.set_content(mail.text)
    return message
