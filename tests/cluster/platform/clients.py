"""Users and operators of the platform on the cluster, and what travelled on its bus."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pyotp

from tests.cluster.platform.conftest import Platform

PASSWORD = "wobbly-lantern-41-quay"
_READ_TOPICS = """
import json, sys, time
from confluent_kafka import Consumer, TopicPartition
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": "reader", "enable.auto.commit": False})
known = consumer.list_topics(timeout=20).topics
places = [TopicPartition(name, number) for name in sys.argv[2:] for number in known[name].partitions]
ends = {}
for place in places:
    first, end = consumer.get_watermark_offsets(place, timeout=20)
    place.offset = first
    if first < end:
        ends[place.topic, place.partition] = end
consumer.assign(places)
deadline = time.monotonic() + 60
while ends and time.monotonic() < deadline:
    message = consumer.poll(5)
    if message is None or message.error():
        continue
    print(json.dumps([message.topic(), json.loads(message.value())]))
    if message.offset() + 1 >= ends.get((message.topic(), message.partition()), 0):
        ends.pop((message.topic(), message.partition()), None)
consumer.close()
"""


@dataclass
class Client:
    """An account that is logged in."""

    http: httpx.Client
    email: str
    user_id: str
    token: str

    def call(self, method: str, path: str, *, expect: int = 200, **options: Any) -> Any:
        """The document of an answer, which has to have the status `expect`."""
        answer = self.send(method, path, **options)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer, whatever it is."""
        return self.http.request(method, path, headers={"authorization": f"Bearer {self.token}"}, **options)

    def balance(self, asset: str) -> tuple[Decimal, Decimal]:
        """Available and held."""
        for found in self.call("GET", "/api/wallet/balances"):
            if found["asset"] == asset:
                return Decimal(found["available"]), Decimal(found["held"])
        return Decimal(0), Decimal(0)

    def place(self, side: str, price: str, quantity: str, symbol: str = "BTC-USD") -> dict[str, Any]:
        """Enter a limit order."""
        body = {
            "symbol": symbol,
            "side": side,
            "order_type": "limit",
            "price": price,
            "quantity": quantity,
            "client_order_id": uuid4().hex,
        }
        placed: dict[str, Any] = self.call("POST", "/api/orders", json=body, expect=201)
        return placed

    def deposit(self, owner: "Client", asset: str, amount: str) -> None:
        """Book funds that arrived, as an operator."""
        body = {"reference": f"test-{uuid4()}", "owner": owner.user_id, "asset": asset, "amount": amount}
        self.call("POST", "/api/wallet/operations/deposits", json=body, expect=201)


def registered(platform: Platform, name: str) -> Client:
    """A new user."""
    http, email = _http(platform), _address(name)
    answer = http.post("/api/auth/register", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return _logged_in(http, email)


def operator(platform: Platform, name: str) -> Client:
    """A new operator, made by the command in a pod, logged in under a second factor."""
    email = _address(name)
    platform.cluster.kubectl(
        "exec", "-i", "deployment/auth", "-n", "trading-system", "--",
        "python", "-m", "app.auth.admin", email, stdin=f"{PASSWORD}\n",
    )  # fmt: skip
    return proved(_logged_in(_http(platform), email))


def proved(client: Client) -> Client:
    """The same account with its second factor switched on and proved."""
    secret = client.call("POST", "/api/auth/totp", json={"password": PASSWORD})["secret"]
    code = pyotp.TOTP(secret).now()
    recovery = client.call("POST", "/api/auth/totp/confirm", json={"code": code})["recovery_codes"]
    # A code of the authenticator is good once, and the next one comes after 30 s.
    return _logged_in(client.http, client.email, code=recovery[0])


def events(platform: Platform, *topics: str) -> list[tuple[str, dict[str, Any]]]:
    """Topic and envelope of everything that these topics hold."""
    address = "kafka.trading-data.svc.cluster.local:9092"
    command = ("python", "-c", _READ_TOPICS, address, *topics)
    told = platform.cluster.kubectl("exec", "deployment/order", "-n", "trading-system", "--", *command)
    return [(topic, envelope) for topic, envelope in map(json.loads, told.splitlines())]


def payloads(found: Sequence[tuple[str, dict[str, Any]]], type_: str) -> list[dict[str, Any]]:
    """Payloads of the events of one type."""
    return [envelope["payload"] for _, envelope in found if envelope["type"] == type_]


def _http(platform: Platform) -> httpx.Client:
    return httpx.Client(base_url=platform.url, trust_env=False, timeout=20)


def _address(name: str) -> str:
    return f"{name}-{uuid4().hex[:8]}@example.com"


def _logged_in(http: httpx.Client, email: str, **more: str) -> Client:
    answer = http.post("/api/auth/login", json={"email": email, "password": PASSWORD, **more})
    assert answer.status_code == 200, answer.text
    client = Client(http, email, "", answer.json()["access_token"])
    client.user_id = client.call("GET", "/api/auth/me")["user_id"]
    return client


def within(seconds: float, what: str, question: Any) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)
    return answer
