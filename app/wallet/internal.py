"""Endpoints of the wallet for other roles: batches of holds and settlements. No public route leads here."""

import hmac
from functools import partial
from ipaddress import ip_address
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.security import APIKeyHeader

from app.kit.problems import Problem
from app.wallet.ledger.transfers import Result
from app.wallet.orders import OrderHold, SettlementRefused, Trade
from app.wallet.schemas import HoldBatch, OrderResult, ReleaseBatch, TradeBatch, TradeResult
from app.wallet.service import Wallet

TOKEN_HEADER = "X-Internal-Token"  # noqa: S105 - the name of a header
_token = APIKeyHeader(name=TOKEN_HEADER, auto_error=False)


async def _only_roles(request: Request, given: Annotated[str | None, Depends(_token)]) -> Wallet:
    """The wallet, for callers that have the internal token, or from this machine when there is none."""
    wallet: Wallet = request.app.state.wallet
    token = wallet.settings.internal_token
    if token is None:
        allowed = request.client is not None and _is_loopback(request.client.host)
    else:
        allowed = hmac.compare_digest((given or "").encode(), token.get_secret_value().encode())
    if not allowed:
        raise Problem(403, "internal-only", "Only other roles of the platform may do this.")
    return wallet


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


router = APIRouter(prefix="/internal/wallet", tags=["internal"])
Services = Annotated[Wallet, Depends(_only_roles)]


@router.post("/holds")
async def place_holds(wallet: Services, batch: HoldBatch) -> list[OrderResult]:
    """Hold funds for orders; one answer for each, in their order."""
    holds = [OrderHold(**hold.model_dump()) for hold in batch.holds]
    results = await wallet.transact(partial(wallet.orders.place, holds=holds))
    return _told([hold.order_id for hold in holds], results)


@router.post("/releases")
async def release_holds(wallet: Services, batch: ReleaseBatch) -> list[OrderResult]:
    """Give back what orders that ended did not use; one answer for each, in their order."""
    results = await wallet.transact(partial(wallet.orders.release, order_ids=batch.order_ids))
    return _told(batch.order_ids, results)


@router.post("/settlements")
async def settle(wallet: Services, batch: TradeBatch) -> list[TradeResult]:
    """Settle trades, all or none; those that are settled already stay as they are."""
    trades = [Trade(**trade.model_dump()) for trade in batch.trades]
    try:
        found = await wallet.transact(partial(wallet.orders.settle, trades=trades))
    except SettlementRefused as error:
        raise Problem(409, "settlement-refused", f"{error}.", refused=error.refused) from None
    return [
        TradeResult(
            symbol=one.symbol,
            trade_id=one.trade_id,
            notional=one.notional,
            buyer_fee=one.buyer_fee,
            seller_fee=one.seller_fee,
        )
        for one in found
    ]


def _told(order_ids: list[str], results: list[Result]) -> list[OrderResult]:
    return [
        OrderResult(order_id=id, code=result.code, amount=result.amount)
        for id, result in zip(order_ids, results, strict=True)
    ]
