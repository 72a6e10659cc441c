"""Users and operators of a platform that runs somewhere, as its gateway sees them."""

import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pyotp

PASSWORD = "wobbly-lantern-41-quay"


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


def registered(url: str, name: str) -> Client:
    """A new user of the platform at `url`."""
    http, email = _http(url), address(name)
    answer = http.post("/api/auth/register", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    return _logged_in(http, email)


def operator(url: str, email: str) -> Client:
    """An operator who was just made with PASSWORD, logged in under a second factor."""
    return proved(_logged_in(_http(url), email))


def proved(client: Client) -> Client:
    """The same account with its second factor switched on and proved."""
    secret = client.call("POST", "/api/auth/totp", json={"password": PASSWORD})["secret"]
    code = pyotp.TOTP(secret).now()
    recovery = client.call("POST", "/api/auth/totp/confirm", json={"code": code})["recovery_codes"]
    # A code of the authenticator is good once, and the next one comes after 30 s.
    return _logged_in(client.http, client.email, code=recovery[0])


def _http(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, trust_env=False, timeout=30)


def address(name: str) -> str:
    """An address that nobody has yet."""
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
