"""Orders as the matching engine writes them."""

import pytest
from sqlalchemy.exc import IntegrityError

from app.kit.database import Database
from app.orders.repository import OrderRepository
from tests.app.orders.orders import ANN, BOB, record


async def test_what_was_added_is_known(database: Database) -> None:
    repository = OrderRepository(database)
    first = record(1, group=1, post_only=True, reason='it\'s "so"')
    second = record(2, owner=BOB, client_order_id="c-1", quantity=2**53 - 1, price=2**53 - 1)
    async with database.transaction() as session:
        assert await repository.last_id(session) == 0
        await repository.add(session, [])
        await repository.add(session, [second, first])
    async with database.transaction() as session:
        assert await repository.last_id(session) == 2
        wanted = [(ANN, "c-1"), (BOB, "c-1"), (ANN, "c-2"), (ANN, "c-1")]
        assert await repository.known(session, wanted) == {(ANN, "c-1"): first, (BOB, "c-1"): second}
        assert await repository.known(session, []) == {}


async def test_a_client_id_names_one_order_of_its_owner(database: Database) -> None:
    repository = OrderRepository(database)
    with pytest.raises(IntegrityError):
        async with database.transaction() as session:
            await repository.add(session, [record(1, client_order_id="c"), record(2, client_order_id="c")])
    async with database.transaction() as session:
        assert await repository.last_id(session) == 0
