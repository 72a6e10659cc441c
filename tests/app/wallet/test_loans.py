"""Margin loans: what is lent is owed, interest is exact, and the risk role is asked first."""

import asyncio
from collections.abc import AsyncIterator
from fractions import Fraction
from random import Random
from uuid import uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.events.accounts import KYCApproved
from app.events.envelope import Envelope
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.kit.internal import HEADER
from app.kit.problems import Problem
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.wallet.checks import RiskRole, Verdict
from app.wallet.ledger.accounts import AccountKind, available, loan, platform
from app.wallet.loans import HOUR, Loan, interest
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from app.wallet.withdrawals import WithdrawalRequest
from tests.app.wallet.books import Clock, balance
from tests.app.wallet.conftest import ROLE, Api, sender
from tests.app.wallet.test_endpoints import deposit
from tests.app.wallet.test_orders import deposit as deposit_units

INCOME = platform(AccountKind.INTEREST, "USD")


class Risk:
    """Allows up to a limit, in smallest units, and notes what it was asked for."""

    def __init__(self) -> None:
        self.limit = 10**18
        self.asked: list[tuple[str, str, int]] = []
        self.away = False

    async def loan(self, owner: str, asset: str, amount: int) -> Verdict:
        if self.away:
            raise Unavailable("risk", "away")
        self.asked.append((owner, asset, amount))
        return Verdict(allowed=amount <= self.limit, reason="" if amount <= self.limit else "margin")

    withdrawal = loan


@pytest.fixture
def risk() -> Risk:
    return Risk()


@pytest.fixture
def clock() -> Clock:
    return Clock(HOUR * 500_000 + 1)


@pytest.fixture
async def wallet(database: Database, risk: Risk, clock: Clock) -> Wallet:
    made = Wallet.of(database, WalletSettings(loan_rate_bps=8760), clock, risk=risk)
    await deposit_units(made, "anna", "USD", 1000)
    return made


async def owed(wallet: Wallet, *owners: str) -> list[Loan]:
    async with wallet.database.transaction(read_only=True) as session:
        return await wallet.loans.outstanding(session, owners or None)


async def repay(wallet: Wallet, amount: int, id: str, owner: str = "anna") -> str:
    try:
        result = await wallet.transact(lambda s: wallet.loans.repay(s, owner, "USD", amount, id))
    except Problem as problem:
        return problem.code
    return result.code.value


async def lend(wallet: Wallet, amount: int, id: str, owner: str = "anna") -> str:
    try:
        return (await wallet.lend(owner, "USD", amount, id)).code.value
    except Problem as problem:
        return problem.code


async def test_a_loan_is_lent_and_paid_back_once(wallet: Wallet) -> None:
    assert [await lend(wallet, 500, "1") for _ in range(2)] == ["ok", "exists"]
    assert await owed(wallet) == await owed(wallet, "anna", "ben") == [Loan("anna", "USD", 500)]
    assert await owed(wallet, "ben") == []
    assert await balance(wallet.database, wallet.ledger, available("anna", "USD")) == 1500
    assert [await repay(wallet, 200, "2") for _ in range(2)] == ["ok", "exists"]
    assert await owed(wallet) == [Loan("anna", "USD", 300)]
    report = await wallet.reconciliation.check()
    assert report.is_clean
    assert report.imbalances == {"USD": 0}


async def test_no_more_is_paid_back_than_is_owed_and_there(wallet: Wallet) -> None:
    assert await lend(wallet, 500, "1") == "ok"
    assert await repay(wallet, 501, "2") == "exceeds-debt"
    assert await repay(wallet, 1, "2", "ben") == "exceeds-debt"
    anna = sender("anna", proved_at=wallet.loans._clock() // 1000)
    await wallet.withdraw(anna, WithdrawalRequest(str(uuid4()), "USD", 1200, "x"))
    assert await repay(wallet, 400, "2") == "insufficient-funds"
    assert await repay(wallet, 300, "2") == "ok"
    assert await owed(wallet) == [Loan("anna", "USD", 200)]


async def test_another_content_under_an_id_is_refused(wallet: Wallet) -> None:
    await lend(wallet, 500, "1")
    assert await lend(wallet, 501, "1") == "id-in-use"
    assert await lend(wallet, 500, "1", "ben") == "id-in-use"
    assert await owed(wallet) == [Loan("anna", "USD", 500)]


async def test_risk_is_asked_before_and_only_once(wallet: Wallet, risk: Risk) -> None:
    risk.limit = 400
    with pytest.raises(Problem) as refused:
        await wallet.lend("anna", "USD", 401, "1")
    assert (refused.value.status, refused.value.code) == (403, "risk-refused")
    assert refused.value.members == {"reason": "margin"}
    assert await lend(wallet, 400, "2") == "ok"
    risk.away = True
    with pytest.raises(Unavailable):
        await lend(wallet, 1, "3")
    assert await lend(wallet, 400, "2") == "exists"
    assert await owed(wallet) == [Loan("anna", "USD", 400)]


async def test_an_hour_costs_its_part_of_the_year(wallet: Wallet, clock: Clock) -> None:
    """At 8,760 basis points a year an hour costs one basis point."""
    await lend(wallet, 15_000, "1")
    assert await wallet.transact(wallet.loans.accrue) == 0
    totals = []
    for _ in range(4):
        clock.advance(3600)
        assert await wallet.transact(wallet.loans.accrue) == 1
        totals.append((await owed(wallet))[0].amount)
    assert totals == [15_001, 15_003, 15_004, 15_006]
    assert await balance(wallet.database, wallet.ledger, INCOME) == 6
    assert (await wallet.reconciliation.check()).is_clean


async def test_interest_is_booked_before_a_debt_changes(wallet: Wallet, clock: Clock) -> None:
    await lend(wallet, 20_000, "1")
    clock.advance(3 * 3600)
    assert await repay(wallet, 10_000, "2") == "ok"
    assert await owed(wallet) == [Loan("anna", "USD", 10_006)]
    clock.advance(3600)
    assert await lend(wallet, 1, "3") == "ok"
    assert await owed(wallet) == [Loan("anna", "USD", 10_008)]
    assert await wallet.transact(wallet.loans.accrue) == 0


@given(st.integers(1, 10**15), st.integers(0, 10_000), st.lists(st.integers(0, 40), min_size=1, max_size=8))
def test_interest_does_not_depend_on_when_it_is_booked(debt: int, rate: int, parts: list[int]) -> None:
    at_once, carry = interest(debt, 0, rate, sum(parts))
    total, carried = 0, 0
    for hours in parts:
        more, carried = interest(debt + total, carried, rate, hours)
        total += more
    assert (total, carried) == (at_once, carry)
    exact = Fraction(0)
    for _ in range(sum(parts)):
        exact += (debt + int(exact)) * Fraction(rate, 87_600_000)
    assert (total, Fraction(carry, 87_600_000)) == (int(exact), exact - int(exact))


async def test_loans_under_concurrency_add_up(postgresql_database: Database, risk: Risk) -> None:
    """Also while their interest is booked."""
    clock = Clock(HOUR * 500_000)
    wallet = Wallet.of(postgresql_database, WalletSettings(loan_rate_bps=8760), clock, risk=risk)

    async def use(task: int) -> None:
        random = Random(task)
        for number in range(6):
            owner, amount = f"u{random.randrange(3)}", random.randint(10_000, 50_000)
            assert await lend(wallet, amount, f"{task}:{number}", owner) == "ok"
            clock.advance(1200)
            await wallet.transact(wallet.loans.accrue)
            assert await repay(wallet, amount // 2, f"{task}:{number}", owner) == "ok"

    await asyncio.gather(*(use(task) for task in range(6)))
    report = await wallet.reconciliation.check()
    assert report.is_clean
    assert report.imbalances == {"USD": 0}
    free = 0
    for owner in ("u0", "u1", "u2"):
        free += await balance(wallet.database, wallet.ledger, available(owner, "USD"))
        assert await balance(wallet.database, wallet.ledger, loan(owner, "USD")) < 0
    income = await balance(wallet.database, wallet.ledger, INCOME)
    assert income > 0
    assert sum(one.amount for one in await owed(wallet)) == free + income


async def test_the_endpoints(api: Api) -> None:
    await deposit(api, "anna", "10")
    api.by(sender("anna"))
    body = {"id": str(uuid4()), "asset": "USD", "amount": "5.5"}
    assert (await api.post("/api/wallet/loans", body, 201))["code"] == "ok"
    assert (await api.post("/api/wallet/loans", body, 201))["code"] == "exists"
    assert (await api.post("/api/wallet/loans", body | {"amount": "6"}, 409))["code"] == "id-in-use"
    assert await api.get("/api/wallet/loans") == [{"asset": "USD", "amount": "5.5", "rate_bps": 800}]
    entries = (await api.get("/api/wallet/ledger", asset="USD", account="loan"))["entries"]
    assert [entry["amount"] for entry in entries] == ["-5.5"]
    more = {"id": str(uuid4()), "asset": "USD", "amount": "5.50000001"}
    problem = await api.post("/api/wallet/loans/repayments", more, 409)
    assert (problem["code"], problem["debt"]) == ("exceeds-debt", 550_000_000)
    assert (await api.post("/api/wallet/loans/repayments", body, 201))["code"] == "ok"
    assert await api.get("/api/wallet/loans") == []
    for wrong in ("0.000000001", "1e20"):
        found = await api.post("/api/wallet/loans", body | {"amount": wrong}, 422)
        assert found["code"] == "invalid-amount"
    reader = api.by(sender("anna", "read"))
    for path in ("loans", "loans/repayments"):
        assert (await reader.post(f"/api/wallet/{path}", body, 403))["code"] == "insufficient-scope"


async def test_withdrawals_need_risk_and_identity(database: Database, risk: Risk) -> None:
    settings = WalletSettings.load(kyc_required=True, unproved_limits={"USD": "100"})
    wallet = Wallet.of(database, settings, Clock(), risk=risk)
    await deposit_units(wallet, "anna", "USD", 1000)
    wanted = WithdrawalRequest(str(uuid4()), "USD", 600, "x")

    async def ask() -> str:
        try:
            return (await wallet.withdraw(sender("anna"), wanted)).state
        except Problem as problem:
            return problem.code

    assert await ask() == "identity-not-verified"
    assert risk.asked == []
    approved = Envelope.of(KYCApproved(user="anna", level=1), key="anna", producer="test")
    await wallet.transact(lambda session: wallet.identities.note(session, approved))
    risk.limit = 500
    assert await ask() == "risk-refused"
    assert await balance(database, wallet.ledger, available("anna", "USD")) == 1000
    risk.limit = 600
    assert [await ask() for _ in range(2)] == ["requested"] * 2
    assert risk.asked == [("anna", "USD", 600)] * 2
    risk.away = True
    assert await ask() == "requested"


Answers = tuple[RiskRole, list[httpx.Response], list[httpx.Request]]


@pytest.fixture
async def answers() -> AsyncIterator[Answers]:
    settings = Settings.load(internal_token="t" * 40)
    role = RiskRole(Runtime(ROLE, settings, Backends(settings)))
    given_: list[httpx.Response] = []
    asked: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if not given_:
            raise httpx.ConnectError("nobody there")
        return given_.pop()

    await role._client.aclose()
    role._client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    yield role, given_, asked
    await role.close()


async def test_the_risk_role_is_asked_over_http(answers: Answers) -> None:
    role, given_, asked = answers
    given_.append(httpx.Response(200, json={"allowed": False, "reason": "margin"}))
    assert await role.loan("anna", "USD", 5) == Verdict(allowed=False, reason="margin")
    assert asked[0].url == "http://risk:8091/internal/risk/loans/check"
    assert asked[0].headers[HEADER] == "t" * 40
    assert asked[0].content == b'{"owner":"anna","asset":"USD","amount":5}'
    for bad in (None, httpx.Response(503), httpx.Response(200, content=b"x"), httpx.Response(200, json={})):
        given_ += [bad] if bad else []
        with pytest.raises(Unavailable):
            await role.withdrawal("anna", "USD", 5)
    assert asked[-1].url.path == "/internal/risk/withdrawals/check"
