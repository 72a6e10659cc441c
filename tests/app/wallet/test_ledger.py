"""What the ledger answers, on both databases."""

import pytest

from app.kit.database import Database
from app.wallet.ledger.accounts import Account, AccountKind, available, platform
from app.wallet.ledger.assets import LARGEST
from app.wallet.ledger.service import Ledger
from app.wallet.ledger.transfers import Code, Result, Transfer
from tests.app.wallet.books import CUSTODY, Clock, apply, balance, open_books, total

A, B = available("anna", "USD"), available("ben", "USD")
PENDING_WITHDRAWAL = platform(AccountKind.PENDING_WITHDRAWAL, "USD")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ledger(database: Database, clock: Clock) -> Ledger:
    made = Ledger(database, clock)
    await open_books(database, made, {"anna": 1000, "ben": 0}, ("USD", "BTC"))
    return made


async def codes(database: Database, ledger: Ledger, *transfers: Transfer) -> list[Code]:
    return [result.code for result in await apply(database, ledger, *transfers)]


async def funds(database: Database, ledger: Ledger, owner: str) -> tuple[int, int]:
    account = available(owner, "USD")
    return await balance(database, ledger, account), await balance(database, ledger, account.held)


async def test_a_move_changes_both_sides(database: Database, ledger: Ledger) -> None:
    assert await apply(database, ledger, Transfer.move("1", A, B, 300)) == [Result("1", Code.OK, 300)]
    assert await balance(database, ledger, A) == 700
    assert await balance(database, ledger, B) == 300
    assert await balance(database, ledger, CUSTODY) == -1000
    assert await total(database, ledger, ["anna", "ben"]) == 0


async def test_a_retry_is_told_the_first_answer(database: Database, ledger: Ledger) -> None:
    move, too_much = Transfer.move("1", A, B, 300), Transfer.move("2", B, A, 301)
    assert await codes(database, ledger, move, too_much) == [Code.OK, Code.INSUFFICIENT_FUNDS]
    await apply(database, ledger, Transfer.move("3", A, B, 100))  # now it would have worked
    again = await apply(database, ledger, move, too_much, move)
    assert again == [
        Result("1", Code.EXISTS, 300),
        Result("2", Code.INSUFFICIENT_FUNDS),
        Result("1", Code.EXISTS, 300),
    ]
    assert await balance(database, ledger, B) == 400


@pytest.mark.parametrize(
    "other",
    [
        Transfer.move("1", A, B, 301),
        Transfer.move("1", B, A, 300),
        Transfer.move("1", A, B, 300, reference="other"),
        Transfer.hold("1", A, 300),
        Transfer.void("1", "h"),
    ],
)
async def test_another_content_under_a_known_id_is_a_conflict(
    database: Database, ledger: Ledger, other: Transfer
) -> None:
    await apply(database, ledger, Transfer.move("1", A, B, 300))
    assert await codes(database, ledger, other) == [Code.CONFLICT]
    assert await balance(database, ledger, A) == 700


async def test_nobody_is_overdrawn(database: Database, ledger: Ledger) -> None:
    assert await codes(
        database,
        ledger,
        Transfer.move("1", A, B, 600),
        Transfer.move("2", A, B, 401),
        Transfer.move("3", A, B, 400),
        Transfer.hold("4", A, 1),
        Transfer.move("5", B, CUSTODY, 1001),
        Transfer.move("6", PENDING_WITHDRAWAL, CUSTODY, 1),
    ) == [
        Code.OK,
        Code.INSUFFICIENT_FUNDS,
        Code.OK,
        Code.INSUFFICIENT_FUNDS,
        Code.INSUFFICIENT_FUNDS,
        Code.INSUFFICIENT_FUNDS,
    ]


async def test_custody_never_gives_out_more_than_came_in(database: Database, ledger: Ledger) -> None:
    suspense = platform(AccountKind.SUSPENSE, "USD")
    assert await codes(database, ledger, Transfer.move("1", suspense, CUSTODY, 1001)) == [
        Code.INSUFFICIENT_FUNDS
    ]
    assert await codes(database, ledger, Transfer.move("2", suspense, CUSTODY, 1000)) == [Code.OK]
    assert await balance(database, ledger, suspense) == -1000


async def test_no_balance_overflows(database: Database, ledger: Ledger) -> None:
    suspense = platform(AccountKind.SUSPENSE, "USD")
    assert await codes(
        database,
        ledger,
        Transfer.move("1", suspense, B, LARGEST),
        Transfer.move("2", A, B, 1),
        Transfer.move("3", suspense, A, 1),
        Transfer.move("4", CUSTODY, A, LARGEST),
    ) == [Code.OK, Code.BALANCE_OVERFLOW, Code.BALANCE_OVERFLOW, Code.BALANCE_OVERFLOW]
    assert await balance(database, ledger, B) == LARGEST


@pytest.mark.parametrize("amount", [0, -1, LARGEST + 1])
def test_impossible_amounts_are_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="an amount is 1 to"):
        Transfer.move("1", A, B, amount)


def test_impossible_transfers_are_refused() -> None:
    with pytest.raises(ValueError, match="two accounts of one asset"):
        Transfer.move("1", A, A, 1)
    with pytest.raises(ValueError, match="two accounts of one asset"):
        Transfer.move("1", A, available("ben", "BTC"), 1)
    with pytest.raises(ValueError, match="by their holds only"):
        Transfer.move("1", A.held, A, 1)
    with pytest.raises(ValueError, match="only available funds"):
        Transfer.hold("1", CUSTODY, 1)
    with pytest.raises(ValueError, match="a timeout has"):
        Transfer.hold("1", A, 1, timeout=0)
    with pytest.raises(ValueError, match="an id has 1 to 100"):
        Transfer.move("x" * 101, A, B, 1)


async def test_unknown_accounts_are_told(database: Database, ledger: Ledger) -> None:
    nobody = available("nobody", "USD")
    assert (
        await codes(
            database,
            ledger,
            Transfer.move("1", A, nobody, 1),
            Transfer.move("2", nobody, A, 1),
            Transfer.hold("3", nobody, 1),
            Transfer.hold("4", A, 1, target=nobody),
            Transfer.move("5", available("anna", "XXX"), available("ben", "XXX"), 1),
        )
        == [Code.UNKNOWN_ACCOUNT] * 5
    )


async def test_a_hold_is_posted_in_full(database: Database, ledger: Ledger) -> None:
    hold, post = Transfer.hold("h", A, 400, target=B), Transfer.post("p", "h")
    assert await apply(database, ledger, hold) == [Result("h", Code.OK, 400)]
    assert await funds(database, ledger, "anna") == (600, 400)
    assert await apply(database, ledger, post) == [Result("p", Code.OK, 400)]
    assert await funds(database, ledger, "anna") == (600, 0)
    assert await funds(database, ledger, "ben") == (400, 0)
    assert await codes(database, ledger, post, hold, Transfer.post("p2", "h"), Transfer.void("v", "h")) == [
        Code.EXISTS,
        Code.EXISTS,
        Code.ALREADY_POSTED,
        Code.ALREADY_POSTED,
    ]


async def test_a_hold_is_posted_in_part(database: Database, ledger: Ledger) -> None:
    await apply(database, ledger, Transfer.hold("h", A, 400, target=B))
    assert await codes(database, ledger, Transfer.post("p0", "h", 401)) == [Code.AMOUNT_EXCEEDS_PENDING]
    assert await codes(database, ledger, Transfer.post("p1", "h", 150)) == [Code.OK]
    assert await funds(database, ledger, "anna") == (850, 0)
    assert await funds(database, ledger, "ben") == (150, 0)


async def test_a_kept_hold_is_posted_many_times(database: Database, ledger: Ledger) -> None:
    await apply(database, ledger, Transfer.hold("h", A, 400))
    assert await codes(
        database,
        ledger,
        Transfer.post("p1", "h", 100, target=B, keep=True),
        Transfer.post("p2", "h", 250, target=B, keep=True),
        Transfer.post("p3", "h", 51, target=B, keep=True),
    ) == [Code.OK, Code.OK, Code.AMOUNT_EXCEEDS_PENDING]
    assert await funds(database, ledger, "anna") == (600, 50)
    assert await apply(database, ledger, Transfer.void("v", "h")) == [Result("v", Code.OK, 50)]
    assert await funds(database, ledger, "anna") == (650, 0)
    assert await codes(database, ledger, Transfer.post("p4", "h", 1, target=B)) == [Code.ALREADY_VOIDED]
    async with database.transaction(read_only=True) as session:
        hold = (await ledger.holds(session, ["h"]))["h"]
    assert (hold.amount, hold.posted, hold.released, hold.left) == (400, 350, 50, 0)


async def test_a_post_goes_where_the_hold_says(database: Database, ledger: Ledger) -> None:
    btc = available("ben", "BTC")
    await apply(database, ledger, Transfer.hold("to ben", A, 10, target=B), Transfer.hold("open", A, 10))
    assert await codes(
        database,
        ledger,
        Transfer.post("1", "to ben", target=PENDING_WITHDRAWAL),
        Transfer.post("2", "open"),
        Transfer.post("3", "open", target=btc),
        Transfer.post("4", "unknown", target=B),
        Transfer.void("5", "unknown"),
        Transfer.post("6", "to ben", target=B),
    ) == [
        Code.TARGET_MISMATCH,
        Code.TARGET_MISMATCH,
        Code.TARGET_MISMATCH,
        Code.UNKNOWN_HOLD,
        Code.UNKNOWN_HOLD,
        Code.OK,
    ]


async def test_a_hold_expires(database: Database, ledger: Ledger, clock: Clock) -> None:
    await apply(
        database,
        ledger,
        Transfer.hold("short", A, 100, target=B, timeout=10),
        Transfer.hold("long", A, 100, target=B, timeout=60),
        Transfer.hold("for ever", A, 100, target=B),
    )
    clock.advance(9.999)
    async with database.transaction() as session:
        assert await ledger.expire(session) == []
    clock.advance(0.001)
    assert await codes(database, ledger, Transfer.post("p", "short"), Transfer.void("v", "short")) == [
        Code.EXPIRED,
        Code.EXPIRED,
    ]
    assert await funds(database, ledger, "anna") == (700, 300)
    for expected in (["short"], []):
        async with database.transaction() as session:
            assert [hold.id for hold in await ledger.expire(session)] == expected
    assert await funds(database, ledger, "anna") == (800, 200)
    assert await codes(database, ledger, Transfer.post("p2", "short")) == [Code.EXPIRED]
    assert await codes(database, ledger, Transfer.post("p3", "long")) == [Code.OK]


async def test_a_chain_happens_as_a_whole(database: Database, ledger: Ledger) -> None:
    good = [Transfer.move("1", A, B, 1, linked=True), Transfer.hold("2", A, 2, target=B, linked=True)]
    chain = [*good, Transfer.post("3", "2")]
    assert await codes(database, ledger, *chain) == [Code.OK] * 3
    assert await funds(database, ledger, "ben") == (3, 0)
    assert await codes(database, ledger, *chain) == [Code.EXISTS] * 3


async def test_a_chain_leaves_nothing_when_one_fails(database: Database, ledger: Ledger) -> None:
    chain = [
        Transfer.move("1", A, B, 700, linked=True),
        Transfer.hold("2", A, 200, target=B, linked=True),
        Transfer.post("3", "2", linked=True),
        Transfer.move("4", A, B, 101, linked=True),
        Transfer.move("5", A, B, 1),
    ]
    expected = [
        Code.LINKED_FAILED,
        Code.LINKED_FAILED,
        Code.LINKED_FAILED,
        Code.INSUFFICIENT_FUNDS,
        Code.LINKED_FAILED,
    ]
    alone = Transfer.move("6", A, B, 1000)
    assert await codes(database, ledger, *chain, alone) == [*expected, Code.OK]
    assert await codes(database, ledger, *chain, alone) == [*expected, Code.EXISTS]
    assert await funds(database, ledger, "anna") == (0, 0)
    assert await codes(database, ledger, Transfer.void("7", "2")) == [Code.UNKNOWN_HOLD]


async def test_a_chain_with_a_known_transfer_fails(database: Database, ledger: Ledger) -> None:
    known = Transfer.move("1", A, B, 1, linked=True)
    await apply(database, ledger, known, Transfer.move("2", A, B, 1))
    assert await codes(database, ledger, known, Transfer.move("3", A, B, 1)) == [
        Code.EXISTS,
        Code.LINKED_FAILED,
    ]
    new = Transfer.move("4", A, B, 1, linked=True)
    assert await codes(database, ledger, new, Transfer.move("2", A, B, 1)) == [
        Code.LINKED_FAILED,
        Code.EXISTS,
    ]
    assert await balance(database, ledger, B) == 2


async def test_broken_chains_are_refused(database: Database, ledger: Ledger) -> None:
    linked = Transfer.move("1", A, B, 1, linked=True)
    with pytest.raises(ValueError, match="linked to a transfer after it"):
        await apply(database, ledger, linked)
    with pytest.raises(ValueError, match="has an id twice"):
        await apply(database, ledger, linked, Transfer.move("1", A, B, 1))


async def test_an_account_is_opened_once_and_by_its_owner(database: Database, ledger: Ledger) -> None:
    async with database.transaction() as session:
        await ledger.open(session, [A, B, available("new", "USD")])
    assert await balance(database, ledger, A) == 1000
    for wrong in (
        Account("anna", "USD", AccountKind.CUSTODY),
        Account("platform/x", "USD", AccountKind.AVAILABLE),
        Account("", "USD", AccountKind.AVAILABLE),
        available("anna", "XXX"),
    ):
        with pytest.raises(ValueError, match=r"cannot own|no asset"):
            async with database.transaction() as session:
                await ledger.open(session, [wrong])


async def test_an_account_whose_opening_was_rolled_back_is_opened_again(
    database: Database, ledger: Ledger
) -> None:
    new = available("new", "USD")

    async def change_of_mind() -> None:
        async with database.transaction() as session:
            await ledger.open(session, [new])
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        await change_of_mind()
    for number in range(2):
        async with database.transaction() as session:
            await ledger.open(session, [new])
            [result] = await ledger.apply(session, [Transfer.move(f"to new {number}", A, new, 1)])
        assert result.done
    assert await balance(database, ledger, new) == 2


async def test_the_history_of_an_account_comes_in_pages(database: Database, ledger: Ledger) -> None:
    await apply(
        database,
        ledger,
        Transfer.move("1", A, B, 100, reference="gift"),
        Transfer.hold("2", A, 200),
        Transfer.move("3", B, A, 50),
    )
    async with database.transaction(read_only=True) as session:
        first = await ledger.entries(session, A, limit=3)
        second = await ledger.entries(session, A, before=first[-1].posting_id, limit=3)
        assert await ledger.entries(session, available("nobody", "USD")) == []
    assert [(e.transfer_id, e.amount, e.balance) for e in first] == [
        ("3", 50, 750),
        ("2", -200, 700),
        ("1", -100, 900),
    ]
    assert [(e.transfer_id, e.amount, e.balance) for e in second] == [("deposit:anna:USD", 1000, 1000)]
    assert (first[2].kind, first[2].reference) == ("move", "gift")
