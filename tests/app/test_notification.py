"""Notification: each message of the queue is one mail, retried while it may succeed, left when it cannot."""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3
import pytest
from aiosmtpd.controller import Controller
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ses.models import ses_backends

from app.events.accounts import SendAlert, UserCreated
from app.events.envelope import Envelope
from app.kit.database import Database
from app.kit.errors import ConfigurationError, Unavailable
from app.notification import queue as queues
from app.notification.mail import LogMailer, SesMailer, SmtpMailer, make_mailer
from app.notification.schemas import Mail, Received, Undeliverable
from app.notification.service import Notifier, compose
from app.notification.settings import NotificationSettings
from app.notification.templates import render
from infra.servers.process import ServerProcess, free_port
from tests.app.platform import running
from tests.stream import until

VALUES = {"symbol": "AAPL", "direction": "above", "level": "190", "price": "190.10"}
QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/notification"


def alert(id_: str = "e-1", user: str = "ann@example.com", **changes: Any) -> str:
    given = {"channel": "email", "template": "price-alert", "values": VALUES, **changes}
    return Envelope.of(SendAlert(user=user, **given), key="k", producer="test", id=id_).encode().decode()


class FakeQueue:
    """Hands out what it was given, once, and remembers what became of it."""

    def __init__(self, *bodies: str, attempts: int = 1) -> None:
        self.waiting = [Received(body, f"r{n}", attempts) for n, body in enumerate(bodies)]
        self.deleted: list[str] = []
        self.postponed: dict[str, int] = {}
        self.done = asyncio.Event()

    async def ping(self) -> None:
        pass

    async def receive(self) -> Sequence[Received]:
        if not self.waiting:
            self.done.set()
            await asyncio.Event().wait()
        found, self.waiting = self.waiting, []
        return found

    async def delete(self, message: Received) -> None:
        self.deleted.append(message.receipt)

    async def postpone(self, message: Received, seconds: int) -> None:
        self.postponed[message.receipt] = seconds


class FakeMailer:
    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[Mail] = []
        self.error = error

    async def send(self, mail: Mail) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append(mail)


async def work(database: Database, queue: FakeQueue, mailer: FakeMailer) -> None:
    task = asyncio.create_task(Notifier(database, queue, mailer).run())
    async with asyncio.timeout(30):
        done = asyncio.create_task(queue.done.wait())
        await asyncio.wait((task, done), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        task.result()
    task.cancel()


async def test_a_message_becomes_a_mail_and_leaves_the_queue(database: Database) -> None:
    queue, mailer = FakeQueue(alert()), FakeMailer()
    await work(database, queue, mailer)
    (sent,) = mailer.sent
    assert (sent.to, sent.subject) == ("ann@example.com", "AAPL is above 190")
    assert "190.10" in sent.text
    assert queue.deleted == ["r0"]


async def test_the_same_event_is_one_mail_however_often_it_comes(database: Database) -> None:
    mailer = FakeMailer()
    first = FakeQueue(alert(), alert(), alert("e-2"))
    await work(database, first, mailer)
    again = FakeQueue(alert())
    await work(database, again, mailer)
    assert sorted(mail.id for mail in mailer.sent) == ["e-1", "e-2"]
    assert sorted(first.deleted) == ["r0", "r1", "r2"]
    assert again.deleted == ["r0"]


async def test_a_mail_that_fails_now_comes_again_later_and_is_then_sent(database: Database) -> None:
    for attempts, seconds in ((1, 10), (3, 40), (12, 900)):
        failing = FakeQueue(alert(), attempts=attempts)
        await work(database, failing, FakeMailer(Unavailable("mail server", "busy")))
        assert failing.deleted == []
        assert failing.postponed == {"r0": seconds}
    mailer = FakeMailer()
    await work(database, FakeQueue(alert()), mailer)
    assert len(mailer.sent) == 1


@pytest.mark.parametrize(
    "body",
    [
        "no json",
        alert(template="unknown"),
        alert(values={}),
        alert(channel="sms"),
        alert(user="u-1"),
        alert().replace('"SendAlert"', '"Unknown"'),
    ],
)
async def test_what_cannot_be_delivered_is_left_to_the_dead_letters(database: Database, body: str) -> None:
    queue, mailer = FakeQueue(body, alert("good")), FakeMailer()
    await work(database, queue, mailer)
    assert queue.postponed == {"r0": 0}
    assert queue.deleted == ["r1"]
    assert [mail.id for mail in mailer.sent] == ["good"]


async def test_events_that_ask_for_nothing_are_passed_over(database: Database) -> None:
    body = Envelope.of(UserCreated(user="u"), key="k", producer="test").encode().decode()
    queue, mailer = FakeQueue(body), FakeMailer()
    await work(database, queue, mailer)
    assert (queue.deleted, mailer.sent) == (["r0"], [])


def test_subjects_are_one_line() -> None:
    subject, _ = render("price-alert", {**VALUES, "symbol": "AAPL\r\nBcc: all@example.com"})
    assert "\n" not in subject
    assert "\r" not in subject


def test_a_missing_value_is_named() -> None:
    with pytest.raises(Undeliverable, match="template 'price-alert' needs the value 'price'"):
        render("price-alert", {name: value for name, value in VALUES.items() if name != "price"})


def test_the_templates_of_the_exchange_need_what_they_are_given() -> None:
    given = {
        "order-filled": ("order_id", "client_order_id", "symbol", "side", "quantity", "average_price"),
        "withdrawal-settled": ("amount", "asset", "destination"),
        "margin-call": ("required", "equity", "seconds"),
        "forced-close": ("orders", "debt"),
        "position-limit": ("symbol", "limit", "position"),
        "daily-loss": ("currency", "loss"),
    }
    for name, values in given.items():
        subject, text = render(name, {value: f"<{value}>" for value in values})
        assert "$" not in subject + text


@pytest.mark.parametrize("template", ["report-ready", "kyc-document-in-review", "kyc-document-rejected"])
def test_the_templates_of_the_functions_are_known(template: str) -> None:
    values = {"account": "A", "end": "2026-01-31", "path": "p", "document": "passport", "reason": "too dark"}
    wanted = SendAlert(user="ann@example.com", channel="email", template=template, values=values)
    assert compose("e", wanted).text


class Inbox:
    """An SMTP server that keeps what it gets."""

    def __init__(self, refuse: str | None = None) -> None:
        self.messages: list[Any] = []
        self._refuse = refuse
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port(), ready_timeout=30)
        self.url = f"smtp://127.0.0.1:{self._controller.port}"

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:  # the name is aiosmtpd's
        if self._refuse:
            return self._refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # the name is aiosmtpd's
        self.messages.append(envelope)
        return "250 OK"

    def __enter__(self) -> "Inbox":
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


MAIL = Mail("price-alert:1", "ann@example.com", "Grüße", "190 € reached")


async def test_smtp_delivers() -> None:
    with Inbox() as inbox:
        await SmtpMailer(inbox.url, "Tradestack <no-reply@example.com>", None).send(MAIL)
        (envelope,) = inbox.messages
    assert envelope.rcpt_tos == ["ann@example.com"]
    assert b"From: Tradestack <no-reply@example.com>" in envelope.content
    assert b"Message-ID: <price-alert.1@tradestack>" in envelope.content


@pytest.mark.parametrize(
    ("answer", "error"),
    [("550 no such user", Undeliverable), ("451 try later", Unavailable)],
)
async def test_smtp_tells_refused_from_busy(answer: str, error: type[Exception]) -> None:
    with Inbox(refuse=answer) as inbox:
        with pytest.raises(error):
            await SmtpMailer(inbox.url, "no-reply@example.com", None).send(MAIL)
        assert inbox.messages == []


async def test_a_password_is_not_given_to_a_server_without_tls() -> None:
    with Inbox() as inbox:
        url = inbox.url.replace("smtp://", "smtp://user@")
        with pytest.raises(Unavailable, match="STARTTLS"):
            await SmtpMailer(url, "no-reply@example.com", "open sesame").send(MAIL)
        assert inbox.messages == []


async def test_a_server_that_is_away_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="mail server"):
        await SmtpMailer(f"smtp://127.0.0.1:{free_port()}", "no-reply@example.com", None).send(MAIL)


async def test_no_header_can_be_smuggled_in() -> None:
    mailer = SmtpMailer("smtp://127.0.0.1:1", "no-reply@example.com", None)
    with pytest.raises(Undeliverable):
        await mailer.send(Mail("e", "ann@example.com\r\nBcc: all@example.com", "s", "t"))


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield


async def test_ses_delivers_and_tells_refused_from_busy(cloud: None) -> None:
    client = boto3.client("sesv2", region_name="us-east-1")
    mailer = SesMailer(client, "no-reply@example.com")
    with pytest.raises(Undeliverable, match="MessageRejected"):
        await mailer.send(MAIL)
    client.create_email_identity(EmailIdentity="no-reply@example.com")
    await mailer.send(MAIL)
    (sent,) = ses_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].sent_messages
    assert sent.source == "no-reply@example.com"
    assert set(sent.destinations) == {"ann@example.com"}


@pytest.fixture
def sqs(cloud: None) -> Any:
    client = boto3.client("sqs", region_name="us-east-1")
    client.create_queue(QueueName="notification", Attributes={"VisibilityTimeout": "180"})
    return client


def url_of(client: Any) -> str:
    return str(client.get_queue_url(QueueName="notification")["QueueUrl"])


async def test_sqs_hands_a_message_out_until_it_is_deleted(sqs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "_WAIT_SECONDS", 0)
    queue = queues.connect(url_of(sqs))
    await queue.ping()
    sqs.send_message(QueueUrl=url_of(sqs), MessageBody="hello")
    (first,) = await queue.receive()
    assert (first.body, first.attempts) == ("hello", 1)
    assert await queue.receive() == []
    await queue.postpone(first, 0)
    (second,) = await queue.receive()
    assert second.attempts == 2
    await queue.delete(second)
    assert left(sqs) == "0"


async def test_a_queue_that_is_gone_is_unavailable(cloud: None) -> None:
    with pytest.raises(Unavailable, match="queue"):
        await queues.connect(QUEUE_URL).ping()


async def test_the_role_takes_messages_from_sqs(
    sqs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "_WAIT_SECONDS", 0)
    monkeypatch.setenv("APP_QUEUE_URL", url_of(sqs))
    sqs.send_message(QueueUrl=url_of(sqs), MessageBody=alert())
    with Inbox() as inbox:
        monkeypatch.setenv("APP_MAIL_URL", inbox.url)
        async with running(tmp_path, "notification") as platform:
            await until("the mail is there", lambda: len(inbox.messages) == 1, 30)
            await until("the message is gone", lambda: left(sqs) == "0", 30)
            assert "notifications_total" in (await platform.get("notification", "/metrics")).text
            assert (await platform.get("notification", "/readyz")).status_code == 200
        assert len(inbox.messages) == 1


def left(client: Any) -> str:
    """Messages that someone has taken and not deleted, or that wait."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = client.get_queue_attributes(QueueUrl=url_of(client), AttributeNames=names)["Attributes"]
    return str(sum(int(answer[name]) for name in names))


def test_without_a_queue_the_role_says_what_to_set(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("APP_")}
    env = {**clean, "APP_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/app.db"}
    process = ServerProcess([sys.executable, "-m", "app", "run", "notification"], tmp_path / "log", env=env)
    process.launch()
    assert process.wait(60) == 2
    assert "APP_QUEUE_URL is not set: give the URL of an SQS queue" in process.output
    assert "Traceback" not in process.output


@pytest.mark.parametrize("url", ["gopher://x", "smtp://", "ses://", "smtp://user:password@host"])
def test_a_wrong_mail_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="APP_MAIL_URL="):
        NotificationSettings.load(queue_url=QUEUE_URL, mail_url=url)


def test_the_mail_url_chooses_the_mailer() -> None:
    for url, kind in (("log://", LogMailer), ("ses://us-east-1", SesMailer), ("smtp://mail:25", SmtpMailer)):
        assert isinstance(make_mailer(NotificationSettings.load(queue_url=QUEUE_URL, mail_url=url)), kind)
