"""Everything that a group of commands is written to."""

from dataclasses import dataclass

from app.kit.database import Database
from app.kit.lease import Lease
from app.matching.repository import AccountRepository, JournalRepository, SwitchRepository
from app.orders.repository import OrderRepository
from app.wallet.orders import OrderFunds


@dataclass(frozen=True)
class Store:
    """The database and what knows its tables."""

    database: Database
    lease: Lease
    journal: JournalRepository
    accounts: AccountRepository
    switches: SwitchRepository
    orders: OrderRepository
    funds: OrderFunds

    @classmethod
    def of(cls, database: Database, lease: Lease, funds: OrderFunds) -> "Store":
        """The store of one database."""
        return cls(
            database,
            lease,
            JournalRepository(database),
            AccountRepository(database),
            SwitchRepository(database),
            OrderRepository(database),
            funds,
        )
