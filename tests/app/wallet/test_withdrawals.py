"""Withdrawals through the endpoints: states, money, second factor, four eyes."""

import asyncio
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pyotp
import pytest
from sqlalchemy import select

from app.events.envelope import Envelope
from app.kit.auth import Method, Principal
from app.kit.database import Database
from app.kit.outbox import OutboxRow
from app.kit.problems import Problem
from app.wallet.ledger.accounts import AccountKind, available, platform
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from app.wallet.withdrawals import NEXT, State, WithdrawalRequest
from tests.app.wallet.books import UNIT, Clock, balance
from tests.app.wallet.conftest import Api, sender
from tests.app.wallet.test_endpoints import OPERATIONS, OPERATOR, deposit

PATH = "/api/wallet/withdrawals"
STEPS = {State.APPROVED: "approve", State.REJECTED: "reject", State.SENT: "sent", State.SETTLED: "settled"}


def proved(api: Api, user: str = "anna", seconds_ago: int = 0) -> Principal:
    return sender(user, proved_at=api.clock() // 1000 - seconds_ago)


def body(amount: str = "50", **other: str) -> dict[str, str]:
    return {"id": str(uuid4()), "asset": "USD", "amount": amount, "destination": "DE89 3704", **other}


async def request(api: Api, amount: str = "50") -> str:
    found = await api.by(proved(api)).post(PATH, body(amount), 201)
    return str(found["id"])


async def step(api: Api, id: str, to: State, status: int = 200, by: Principal = OPERATOR) -> Any:
    return await api.by(by).post(f"{OPERATIONS}/withdrawals/{id}/{STEPS[to]}", {"note": to.value}, status)


async def money(api: Api) -> dict[str, int]:
    """Whole dollars by account."""
    anna = available("anna", "USD")
    wanted = {
        "available": anna,
        "held": anna.held,
        "pending": platform(AccountKind.PENDING_WITHDRAWAL, "USD"),
        "custody": platform(AccountKind.CUSTODY, "USD"),
    }
    return {
        name: await balance(api.wallet.database, api.wallet.ledger, account) // UNIT
        for name, account in wanted.items()
    }


async def told(api: Api, *types: str) -> list[tuple[str, str]]:
    async with api.wallet.database.transaction(read_only=True) as session:
        rows = (await session.scalars(select(OutboxRow.value).order_by(OutboxRow.id))).all()
    found = [Envelope.decode(row) for row in rows]
    return [(event.type, event.payload.get("state", "")) for event in found if event.type in types]


@pytest.fixture
async def funded(api: Api) -> Api:
    await deposit(api, "anna", "1000")
    return api


async def test_a_withdrawal_goes_its_way(funded: Api) -> None:
    api = funded
    id = await request(api)
    assert await money(api) == {"available": 950, "held": 50, "pending": 0, "custody": -1000}
    assert (await step(api, id, State.APPROVED))["approved_by"] == "olga"
    assert await money(api) == {"available": 950, "held": 50, "pending": 0, "custody": -1000}
    await step(api, id, State.SENT)
    assert await money(api) == {"available": 950, "held": 0, "pending": 50, "custody": -1000}
    found = await step(api, id, State.SETTLED)
    assert (found["state"], found["note"], found["amount"]) == ("settled", "settled", "50")
    assert await money(api) == {"available": 950, "held": 0, "pending": 0, "custody": -950}
    assert await told(api, "FundsHeld", "FundsWithdrawn", "FundsReleased", "WithdrawalChanged") == [
        ("FundsHeld", ""),
        ("WithdrawalChanged", "requested"),
        ("WithdrawalChanged", "approved"),
        ("WithdrawalChanged", "sent"),
        ("FundsWithdrawn", ""),
        ("WithdrawalChanged", "settled"),
    ]
    assert (await api.wallet.reconciliation.check()).is_clean


@pytest.mark.parametrize("before", [[], [State.APPROVED], [State.APPROVED, State.SENT]])
async def test_a_rejected_withdrawal_gives_the_funds_back(funded: Api, before: list[State]) -> None:
    api = funded
    id = await request(api)
    for state in before:
        await step(api, id, state)
    await step(api, id, State.REJECTED)
    assert await money(api) == {"available": 1000, "held": 0, "pending": 0, "custody": -1000}
    assert await told(api, "FundsReleased", "FundsWithdrawn") == [("FundsReleased", "")]


WAYS = {
    State.REQUESTED: [],
    State.APPROVED: [State.APPROVED],
    State.SENT: [State.APPROVED, State.SENT],
    State.SETTLED: [State.APPROVED, State.SENT, State.SETTLED],
    State.REJECTED: [State.REJECTED],
}


@pytest.mark.parametrize("state", State)
async def test_only_allowed_transitions_happen(funded: Api, state: State) -> None:
    api = funded
    for to in STEPS.keys() - NEXT[state] - {state}:
        id = await request(api)
        for way in WAYS[state]:
            await step(api, id, way)
        before = await money(api)
        assert (await step(api, id, to, 409))["code"] == "invalid-transition"
        assert await money(api) == before
    for from_, to in pairwise(WAYS[state]):
        assert to in NEXT[from_]


async def test_a_step_again_changes_nothing_unless_by_another(funded: Api) -> None:
    api = funded
    id = await request(api)
    first = await step(api, id, State.APPROVED)
    assert await step(api, id, State.APPROVED) == first
    other = sender("otto", "admin")
    assert (await step(api, id, State.APPROVED, 409, by=other))["code"] == "invalid-transition"
    assert len(await told(api, "WithdrawalChanged")) == 2


async def test_nobody_decides_on_their_own(funded: Api) -> None:
    api = funded
    id = await request(api)
    anna = sender("anna", "admin", "read")
    for to in (State.APPROVED, State.SENT, State.REJECTED):
        assert (await step(api, id, State.REJECTED, 403, by=anna))["code"] == "own-withdrawal"
        assert (await step(api, id, to, 403, by=anna))["code"] == "own-withdrawal"
        assert (await step(api, id, to))["state"] == to


async def test_unknown_withdrawals_are_told(funded: Api) -> None:
    api, id = funded, str(uuid4())
    assert (await step(api, id, State.APPROVED, 404))["code"] == "unknown-withdrawal"
    assert (await api.get(f"{PATH}/{id}", 404))["code"] == "unknown-withdrawal"
    assert (await api.get(f"{PATH}/no-uuid", 422))["code"] == "invalid-request"
    assert (await api.get(PATH, 404, before=id))["code"] == "unknown-withdrawal"


async def test_the_same_request_gets_the_same_withdrawal(funded: Api) -> None:
    api = funded
    wanted = body("60")
    first = await api.by(proved(api)).post(PATH, wanted, 201)
    api.clock.advance(3600)  # the proof is old by now, and nothing new is asked
    assert await api.post(PATH, wanted, 201) == first
    for other in ({"amount": "61"}, {"destination": "elsewhere"}, {"asset": "EUR"}):
        assert (await api.post(PATH, {**wanted, **other}, 409))["code"] == "id-in-use"
    stranger = api.by(proved(api, "ben"))
    assert (await stranger.post(PATH, wanted, 409))["code"] == "id-in-use"
    assert (await money(api))["held"] == 60


async def test_funds_are_needed(funded: Api) -> None:
    api, wanted = funded, body("1000.01")
    problem = await api.by(proved(api)).post(PATH, wanted, 409)
    assert problem["code"] == "insufficient-funds"
    assert await money(api) == {"available": 1000, "held": 0, "pending": 0, "custody": -1000}
    await deposit(api, "anna", "0.01")
    await api.by(proved(api)).post(PATH, wanted, 201)


@pytest.mark.parametrize(
    "wrong",
    [
        {"amount": "0"},
        {"amount": "1e30"},
        {"amount": "x"},
        {"asset": "XXX"},
        {"destination": ""},
        {"destination": "a\nb"},
        {"destination": " padded "},
        {"id": "1"},
        {"other": "1"},
    ],
)
async def test_wrong_requests_are_refused(funded: Api, wrong: dict[str, str]) -> None:
    api = funded
    problem = await api.by(proved(api)).post(PATH, {**body(), **wrong}, 422)
    assert problem["code"] in ("invalid-request", "invalid-amount")
    assert (await money(api))["held"] == 0


async def test_without_a_second_factor_little_can_be_withdrawn(funded: Api) -> None:
    api = funded
    anna = sender("anna")
    await api.by(anna).post(PATH, body("60"), 201)
    assert (await api.by(anna).post(PATH, body("40.01"), 403))["code"] == "second-factor-required"
    assert (await money(api))["held"] == 60
    id = (await api.by(anna).post(PATH, body("40"), 201))["id"]
    assert (await api.by(anna).post(PATH, body("0.01"), 403))["code"] == "second-factor-required"
    await api.by(proved(api)).post(PATH, body("500"), 201)  # proved ones do not count
    await step(api, id, State.REJECTED)  # nor do those that will not happen
    await api.by(anna).post(PATH, body("40"), 201)
    api.clock.advance(24 * 3600)
    await api.by(anna).post(PATH, body("100"), 201)


async def test_assets_without_a_limit_need_a_second_factor(api: Api) -> None:
    await deposit(api, "anna", "1", "BTC")
    wanted = body("0.00000001", asset="BTC")
    assert (await api.by(sender("anna")).post(PATH, wanted, 403))["code"] == "second-factor-required"
    assert (await api.by(proved(api)).post(PATH, wanted, 201))["second_factor"] is True


async def test_an_old_proof_has_to_be_renewed(funded: Api) -> None:
    api = funded
    problem = await api.by(proved(api, seconds_ago=301)).post(PATH, body("1"), 401)
    assert problem["code"] == "step-up-required"
    await api.by(proved(api, seconds_ago=299)).post(PATH, body("1"), 201)


async def test_an_api_key_that_may_withdraw_counts_as_proved(funded: Api) -> None:
    api = funded
    key = sender("anna", "withdraw", method=Method.API_KEY)
    assert (await api.by(key).post(PATH, body("500"), 201))["second_factor"] is True


async def test_users_see_their_own_and_operators_all(funded: Api) -> None:
    api = funded
    ids = []
    for _ in range(3):
        ids.append(await request(api, "1"))
        api.clock.advance(1)
    await step(api, ids[0], State.APPROVED)
    api.by(sender("anna"))
    first = await api.get(PATH, limit=2)
    second = await api.get(PATH, limit=2, before=first["next"])
    assert [one["id"] for one in first["withdrawals"] + second["withdrawals"]] == ids[::-1]
    assert second["next"] is None
    assert [one["id"] for one in (await api.get(PATH, state="approved"))["withdrawals"]] == ids[:1]
    api.by(sender("ben"))
    assert (await api.get(PATH))["withdrawals"] == []
    assert (await api.get(f"{PATH}/{ids[0]}", 404))["code"] == "unknown-withdrawal"
    assert (await api.get(PATH, 404, before=ids[0]))["code"] == "unknown-withdrawal"
    api.by(OPERATOR)
    assert (await api.get(f"{PATH}/{ids[0]}"))["id"] == ids[0]
    assert len((await api.get(f"{OPERATIONS}/withdrawals", owner="anna"))["withdrawals"]) == 3
    assert (await api.get(f"{OPERATIONS}/withdrawals", owner="ben"))["withdrawals"] == []


async def test_the_user_is_told_when_a_withdrawal_arrived(funded: Api) -> None:
    api = funded
    id = await request(api)
    for to in (State.APPROVED, State.SENT):
        await step(api, id, to)
    assert await told(api, "SendConfirmation") == []
    await step(api, id, State.SETTLED)
    async with api.wallet.database.transaction(read_only=True) as session:
        rows = (await session.scalars(select(OutboxRow.value).order_by(OutboxRow.id))).all()
    [event] = [found for row in rows if (found := Envelope.decode(row)).type == "SendConfirmation"]
    assert (event.key, event.payload["user"], event.payload["template"]) == (
        "anna",
        "anna",
        "withdrawal-settled",
    )
    assert event.payload["values"] == {"amount": "50", "asset": "USD", "destination": "DE89 3704"}


class Codes:
    """A second factor by codes of pyotp, for users who have a secret."""

    def __init__(self, clock: Clock, secrets: dict[str, str], code: str) -> None:
        self.clock, self.secrets, self.code = clock, secrets, code

    def proves(self, user: Principal) -> bool:
        secret = self.secrets.get(user.user_id)
        if secret is None:
            return False
        if not pyotp.TOTP(secret).verify(self.code, for_time=self.clock() // 1000):
            raise Problem(403, "wrong-code", "The code is wrong.")
        return True


async def test_the_second_factor_is_the_one_that_was_injected(database: Database) -> None:
    clock, secret = Clock(), pyotp.random_base32()
    factor = Codes(clock, {"anna": secret}, pyotp.TOTP(secret).at(clock() // 1000))
    wallet = Wallet.of(database, WalletSettings(), clock, factor)
    async with database.transaction() as session:
        await wallet.ledger.open(session, [available("anna", "USD"), platform(AccountKind.CUSTODY, "USD")])
    await fund(wallet)
    wanted = WithdrawalRequest(str(uuid4()), "USD", 5, "x")
    row = await wallet.transact(lambda s: wallet.withdrawals.request(s, sender("anna"), wanted))
    assert row.second_factor
    clock.advance(300)
    other = WithdrawalRequest(str(uuid4()), "USD", 5, "x")
    with pytest.raises(Problem, match="The code is wrong"):
        await wallet.transact(lambda s: wallet.withdrawals.request(s, sender("anna"), other))


async def fund(wallet: Wallet) -> None:
    from app.wallet.deposits import Deposit

    booked = Deposit("1", "anna", "USD", 100)
    await wallet.transact(lambda session: wallet.deposits.book(session, booked))


async def test_limits_and_ids_hold_under_concurrency(postgresql_database: Database) -> None:
    clock = Clock()
    wallet = Wallet.of(postgresql_database, WalletSettings.load(unproved_limits={"USD": "0.00000050"}), clock)
    await fund(wallet)
    id = str(uuid4())

    async def ask(id: str, amount: int) -> str:
        wanted = WithdrawalRequest(id, "USD", amount, "x")
        try:
            await wallet.transact(lambda s: wallet.withdrawals.request(s, sender("anna"), wanted))
        except Problem as problem:
            return problem.code
        return "held"

    same = await asyncio.gather(*(ask(id, 20) for _ in range(8)))
    assert same == ["held"] * 8
    many = await asyncio.gather(*(ask(str(uuid4()), 10) for _ in range(8)))
    assert sorted(many) == ["held"] * 3 + ["second-factor-required"] * 5
    assert await balance(wallet.database, wallet.ledger, available("anna", "USD").held) == 50


async def test_two_operators_at_once_take_one_step(postgresql_database: Database) -> None:
    clock = Clock()
    wallet = Wallet.of(postgresql_database, WalletSettings(), clock)
    await fund(wallet)
    wanted = WithdrawalRequest(str(uuid4()), "USD", 20, "x")
    anna = sender("anna", "withdraw", method=Method.API_KEY)
    await wallet.transact(lambda s: wallet.withdrawals.request(s, anna, wanted))

    async def decide(operator: str, to: State) -> str:
        try:
            await wallet.transact(
                lambda s: wallet.withdrawals.advance(s, sender(operator, "admin"), wanted.id, to)
            )
        except Problem as problem:
            return problem.code
        return to.value

    found = await asyncio.gather(*(decide(f"o{n}", State.REJECTED) for n in range(6)))
    assert sorted(found) == ["invalid-transition"] * 5 + ["rejected"]
    assert await balance(wallet.database, wallet.ledger, available("anna", "USD")) == 100
    assert (await wallet.reconciliation.check()).is_clean
