"""The wallet beside the role `risk`: what is asked and answered over HTTP."""

from pathlib import Path

from app.wallet.checks import RiskRole
from app.wallet.deposits import Deposit
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings
from tests.app.platform import running
from tests.app.wallet.books import UNIT


async def test_the_risk_role_decides_on_loans_and_withdrawals(tmp_path: Path) -> None:
    async with running(tmp_path, "wallet", "risk") as platform:
        risk = RiskRole(platform.runtimes["wallet"])
        wallet = Wallet.of(platform.backends.database, WalletSettings(), risk=risk)
        deposit = Deposit("1", "anna", "USD", 100 * UNIT)
        await wallet.transact(lambda session: wallet.deposits.book(session, deposit))
        assert (await risk.withdrawal("anna", "USD", 100 * UNIT)).allowed
        refused = await risk.loan("anna", "USD", 10**6 * UNIT)
        assert not refused.allowed
        assert refused.reason
        assert (await wallet.lend("anna", "USD", 10 * UNIT, "1")).done
        assert not (await risk.withdrawal("anna", "USD", 110 * UNIT)).allowed
        await risk.close()
