"""What margin sees of the real wallet."""

from uuid import uuid4

import pytest

from app.kit.auth import Method, Principal
from app.kit.database import Database
from app.kit.errors import Unavailable
from app.risk.funds import Holding, LedgerFunds
from app.risk.margin_service import MarginService
from app.risk.settings import RiskSettings
from app.wallet.deposits import Deposit
from app.wallet.hold_rules import OrderHold
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from app.wallet.withdrawals import State, WithdrawalRequest

UNIT = 10**8
ANNA = Principal("anna", frozenset({"read", "trade", "withdraw"}), Method.TOKEN, "s", None)
OLGA = Principal("olga", frozenset({"read", "admin"}), Method.TOKEN, "s", None)


@pytest.fixture
async def wallet(database: Database) -> Wallet:
    made = Wallet.of(database, WalletSettings.load(unproved_limits={"USD": "100000"}))
    await made.prepare()
    return made


async def fund(wallet: Wallet, owner: str, asset: str, amount: int) -> None:
    async with wallet.database.transaction() as session:
        booked = Deposit(f"{owner}-{asset}", owner, asset, amount * UNIT)
        assert (await wallet.deposits.book(session, booked)).done


async def test_loans_orders_and_withdrawals(wallet: Wallet) -> None:
    funds = LedgerFunds(wallet.ledger, wallet.loans)
    margin = MarginService(funds, lambda _: None, RiskSettings())
    database = wallet.database
    await fund(wallet, "anna", "USD", 1_000)
    async with database.transaction() as session:
        await wallet.loans.borrow(session, "anna", "USD", 1_000 * UNIT, "l1")
    async with database.transaction() as session:
        [hold] = await wallet.orders.place(session, [OrderHold("7", "anna", "BTC-USD", "buy", 100 * UNIT)])
        assert hold.done
    async with database.transaction(read_only=True) as session:
        assert await funds.holdings(session, "anna") == {
            "BTC": Holding(),
            "USD": Holding(1_900 * UNIT, 100 * UNIT),
        }
        assert await funds.debts(session) == {"anna": {"USD": 1_000 * UNIT}}
        assert await funds.debts(session, ["ben"]) == {}
        assert not await funds.is_settled(session, 7)
        assert await funds.is_settled(session, 8)
        assert await margin.refuses_withdrawal(session, "anna", "USD", 500 * UNIT) == ""
    wanted = WithdrawalRequest(str(uuid4()), "USD", 500 * UNIT, "somewhere")
    async with database.transaction() as session:
        row = await wallet.withdrawals.request(session, ANNA, wanted)
    async with database.transaction(read_only=True) as session:
        # What is on its way out does not count a second time.
        assert await margin.refuses_withdrawal(session, "anna", "USD", 1) == "initial_margin"
        assert (await funds.holdings(session, "anna"))["USD"] == Holding(1_400 * UNIT, 100 * UNIT)
    async with database.transaction() as session:
        await wallet.withdrawals.advance(session, OLGA, row.id, State.REJECTED, "no")
    async with database.transaction() as session:
        await wallet.orders.release(session, ["7"])
    async with database.transaction(read_only=True) as session:
        assert await funds.is_settled(session, 7)
        assert (await funds.holdings(session, "anna"))["USD"] == Holding(2_000 * UNIT, 0)
        assert await margin.refuses_withdrawal(session, "anna", "USD", 500 * UNIT) == ""


async def test_a_repayment_that_is_not_possible_is_decided_anew(wallet: Wallet) -> None:
    funds = LedgerFunds(wallet.ledger, wallet.loans)
    await fund(wallet, "anna", "USD", 10)

    async def repay(amount: int, id: str) -> None:
        async with wallet.database.transaction() as session:
            await funds.repay(session, "anna", "USD", amount * UNIT, id)

    async with wallet.database.transaction() as session:
        await wallet.loans.borrow(session, "anna", "USD", 5 * UNIT, "l1")
    with pytest.raises(Unavailable):
        await repay(6, "r1")
    await repay(5, "r2")
    await repay(5, "r2")
    async with wallet.database.transaction(read_only=True) as session:
        assert await funds.debts(session) == {}
