"""Tables of behaviour hold for the engine and for the reference book alike."""

import pytest

from app.exchange import MatchingEngine
from tests.exchange.market import Market
from tests.exchange.reference import ReferenceEngine


@pytest.fixture(params=[MatchingEngine, ReferenceEngine], ids=["engine", "reference"])
def market(request: pytest.FixtureRequest) -> Market:
    return Market(request.param("X"))
