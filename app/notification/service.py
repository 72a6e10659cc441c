"""Messages of the queue become mails, each once."""

import asyncio

from prometheus_client import Counter
from pydantic import ValidationError

from app.events.accounts import SendAlert, SendConfirmation
from app.events.envelope import Envelope
from app.kit import logs
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.inbox import first_time
from app.notification.mail import Mailer
from app.notification.queue import Queue
from app.notification.schemas import Mail, Received, Undeliverable
from app.notification.templates import render

_CONSUMER = "notification"
_FIRST_PAUSE = 10
_LONGEST_PAUSE = 900
_log = logs.get(__name__)
_outcomes = Counter("notifications_total", "Messages of the queue that were dealt with", ["outcome"])


class Notifier:
    """Takes messages and delivers them; what cannot be delivered is left to the queue's dead letters."""

    def __init__(self, database: Database, queue: Queue, mailer: Mailer) -> None:
        self._database = database
        self._queue = queue
        self._mailer = mailer

    async def run(self) -> None:
        """Take messages until cancelled; raises Unavailable when the queue is gone."""
        while True:
            messages = await self._queue.receive()
            await asyncio.gather(*(self._take(message) for message in messages))

    async def _take(self, message: Received) -> None:
        try:
            outcome = await self._deliver(message.body)
        except Undeliverable as error:
            _log.error("undeliverable", reason=str(error), attempts=message.attempts)
            _outcomes.labels("undeliverable").inc()
            await self._queue.postpone(message, 0)
        except Unavailable as error:
            pause = min(_FIRST_PAUSE * 2 ** (message.attempts - 1), _LONGEST_PAUSE)
            _log.warning("postponed", reason=str(error), attempts=message.attempts, seconds=pause)
            _outcomes.labels("postponed").inc()
            await self._queue.postpone(message, pause)
        else:
            _outcomes.labels(outcome).inc()
            await self._queue.delete(message)

    async def _deliver(self, body: str) -> str:
        """Send what a message asks for, if that has not been done.

        The mail goes out inside the transaction that records the event: when it fails, nothing is recorded;
        another replica with the same event waits for the end. Only a crash between sending and commit sends
        a mail twice.
        """
        try:
            event = Envelope.decode(body.encode())
            wanted = event.content()
        except (ValidationError, KeyError) as error:
            raise Undeliverable(f"not an event: {type(error).__name__}") from error
        if not isinstance(wanted, SendAlert | SendConfirmation):
            return "ignored"
        mail = compose(event.id, wanted)
        async with self._database.transaction() as session:
            if not await first_time(self._database, session, _CONSUMER, event.id):
                return "repeated"
            await self._mailer.send(mail)
        return "sent"


def compose(event_id: str, wanted: SendAlert | SendConfirmation) -> Mail:
    """The mail that an event asks for. A user's id is the address for as long as no role keeps profiles.

    Raises:
        Undeliverable: another channel than e-mail, no address, or a template that cannot be filled in.
    """
    if wanted.channel != "email":
        raise Undeliverable(f"channel '{wanted.channel}' is not connected; e-mail is")
    if "@" not in wanted.user:
        raise Undeliverable(f"user '{wanted.user}' has no e-mail address")
    subject, text = render(wanted.template, wanted.values)
    return Mail(event_id, wanted.user, subject, text)
