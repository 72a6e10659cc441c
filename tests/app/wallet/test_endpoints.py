"""What the endpoints answer, problems included."""

import json

import pytest

from tests.app.wallet.conftest import Api, sender

ANNA, BEN = sender("anna"), sender("ben")
OPERATOR = sender("olga", "read", "admin")
OPERATIONS = "/api/wallet/operations"


async def deposit(
    api: Api, owner: str, amount: str, asset: str = "USD", reference: str = "", status: int = 201
) -> dict[str, str]:
    body = {
        "reference": reference or f"{owner}-{asset}-{amount}",
        "owner": owner,
        "asset": asset,
        "amount": amount,
    }
    found: dict[str, str] = await api.by(OPERATOR).post(f"{OPERATIONS}/deposits", body, status)
    return found


async def test_a_deposit_is_booked_once(api: Api) -> None:
    assert (await deposit(api, "anna", "12.50", reference="wire 1"))["code"] == "ok"
    assert (await deposit(api, "anna", "12.5", reference="wire 1"))["code"] == "exists"
    problem = await deposit(api, "anna", "13", reference="wire 1", status=409)
    assert problem["code"] == "reference-in-use"
    assert await api.by(ANNA).get("/api/wallet/balances") == [
        {"asset": "USD", "available": "12.5", "held": "0"}
    ]
    assert await api.by(BEN).get("/api/wallet/balances") == []


@pytest.mark.parametrize(
    ("owner", "asset", "amount", "code"),
    [
        ("anna", "USD", "0.001", "invalid-amount"),
        ("anna", "USD", "99999999999999", "invalid-amount"),
        ("anna", "AAPL", "0.5", "invalid-amount"),
        ("anna", "USD", "0", "invalid-request"),
        ("anna", "USD", "-1", "invalid-request"),
        ("anna", "USD", "NaN", "invalid-request"),
        ("anna", "USD", "Infinity", "invalid-request"),
        ("anna", "XXX", "1", "invalid-request"),
        ("platform", "USD", "1", "invalid-request"),
        ("platform/x", "USD", "1", "invalid-request"),
        ("a b", "USD", "1", "invalid-request"),
    ],
)
async def test_wrong_deposits_are_refused(api: Api, owner: str, asset: str, amount: str, code: str) -> None:
    assert (await deposit(api, owner, amount, asset, reference="r", status=422))["code"] == code
    assert (await api.post(f"{OPERATIONS}/reconciliation"))["imbalances"] == {}


@pytest.mark.parametrize("text", ["\x00", "\n", "\ud800"])
async def test_text_that_no_database_takes_is_refused(api: Api, text: str) -> None:
    raw = json.dumps({"reference": text, "owner": "anna", "asset": "USD", "amount": "1"})
    response = await api.by(OPERATOR).client.post(
        f"{OPERATIONS}/deposits", content=raw, headers={"content-type": "application/json"}
    )
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
    path = f"{OPERATIONS}/withdrawals/00000000-0000-4000-8000-000000000001/approve"
    response = await api.client.post(
        path, content=json.dumps({"note": text}), headers={"content-type": "application/json"}
    )
    assert (response.status_code, response.json()["code"]) == (422, "invalid-request")
    if text != "\ud800":
        assert (await api.get(f"{OPERATIONS}/withdrawals", 422, owner=text))["code"] == "invalid-request"


async def test_more_than_an_account_holds_is_refused(api: Api) -> None:
    await deposit(api, "anna", "92233720368.54")
    assert (await deposit(api, "anna", "1", status=409))["code"] == "deposit-refused"


async def test_scopes_are_needed(api: Api) -> None:
    user = api.by(sender("anna", "other"))
    for path in ("/balances", "/ledger?asset=USD", "/withdrawals"):
        assert (await user.get(f"/api/wallet{path}", 403))["code"] == "insufficient-scope"
    body = {"id": "00000000-0000-4000-8000-000000000001", "asset": "USD", "amount": "1", "destination": "x"}
    reader = api.by(sender("anna", "read"))
    assert (await reader.post("/api/wallet/withdrawals", body, 403))["code"] == "insufficient-scope"
    for path in ("deposits", "reconciliation", "withdrawals/00000000-0000-4000-8000-000000000001/approve"):
        problem = await api.by(ANNA).post(f"{OPERATIONS}/{path}", status=403)
        assert problem["code"] == "insufficient-scope"
    assert (await api.get(f"{OPERATIONS}/withdrawals", 403))["code"] == "insufficient-scope"


async def test_the_assets_are_public(api: Api) -> None:
    found = await api.get("/api/wallet/assets")
    assert {"code": "USD", "scale": 8, "external_scale": 2} in found
    assert {"code": "BTC", "scale": 8, "external_scale": 8} in found
    assert {"code": "JPY", "scale": 8, "external_scale": 0} in found


async def test_the_ledger_comes_in_pages(api: Api) -> None:
    for number in range(1, 6):
        await deposit(api, "anna", str(number))
    api.by(ANNA)
    first = await api.get("/api/wallet/ledger", asset="USD", limit=2)
    second = await api.get("/api/wallet/ledger", asset="USD", limit=3, before=first["next"])
    assert [entry["amount"] for entry in first["entries"] + second["entries"]] == ["5", "4", "3", "2", "1"]
    assert [entry["balance"] for entry in first["entries"]] == ["15", "10"]
    assert second["next"] is None
    assert first["entries"][0]["transfer_id"] == "deposit:anna-USD-5"
    assert (await api.get("/api/wallet/ledger", asset="USD", account="held"))["entries"] == []
    assert (await api.by(BEN).get("/api/wallet/ledger", asset="USD"))["entries"] == []


async def test_wrong_questions_about_the_ledger_are_refused(api: Api) -> None:
    api.by(ANNA)
    assert (await api.get("/api/wallet/ledger", 404, asset="XXX"))["code"] == "unknown-asset"
    for wrong in ({"account": "custody"}, {"limit": 0}, {"limit": 501}, {"before": 2**63}):
        assert (await api.get("/api/wallet/ledger", 422, asset="USD", **wrong))["code"] == "invalid-request"
