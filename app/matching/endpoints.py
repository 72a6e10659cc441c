"""Endpoints of the matching engine, for other roles only, and the entry of the role."""

import asyncio
import socket
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response

from app.kit import web
from app.kit.internal import only_roles
from app.kit.lease import Lease
from app.kit.runtime import Runtime
from app.marks import Marks
from app.matching.service import LEASE, Engine, system_clock
from app.matching.settings import MatchingSettings
from app.matching.store import Store
from app.matching.term import Parts
from app.matching_client.commands import (
    BOOKS_PATH,
    COMMANDS_PATH,
    DEPTH_PATH,
    LARGEST_DEPTH,
    RELOAD_RISK_PATH,
    REPUBLISH_PATH,
    RESULTS,
    Commands,
    Depth,
    PublishedBooks,
    Republish,
    Results,
    Symbol,
)
from app.risk.repository import LimitsRepository
from app.wallet.service import Wallet
from app.wallet.settings import WalletSettings

router = APIRouter(tags=["internal"], dependencies=[Depends(only_roles)])
STATE_PATH = "/internal/matching/state"


def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


TheEngine = Annotated[Engine, Depends(_engine)]


@router.post(COMMANDS_PATH, response_model=Results)
async def carry_out(engine: TheEngine, commands: Commands) -> Response:
    """Carry commands out; one result for each in their order, null where asking again is needed."""
    results = await engine.submit(commands)
    return Response(RESULTS.dump_json(results), media_type="application/json")


@router.post(REPUBLISH_PATH, status_code=202)
async def republish(engine: TheEngine, wanted: Republish) -> None:
    """Begin to publish the changes of a symbol behind a sequence again."""
    await engine.republish(wanted.symbol, wanted.after)


@router.get(DEPTH_PATH)
async def depth(
    engine: TheEngine, symbol: Symbol, levels: Annotated[int, Query(ge=1, le=LARGEST_DEPTH)] = 20
) -> Depth:
    """The best levels of a book."""
    return engine.depth(symbol, levels)


@router.get(BOOKS_PATH, response_model=PublishedBooks)
async def books(engine: TheEngine) -> Response:
    """Every book as it was published on the bus last."""
    return Response(engine.books().model_dump_json(), media_type="application/json")


@router.post(RELOAD_RISK_PATH, status_code=204)
async def reload_risk(engine: TheEngine) -> None:
    """Take limits and kill switches as they are in the database now."""
    await engine.reload_risk()


@router.get(STATE_PATH)
async def state(engine: TheEngine) -> dict[str, dict[str, int | str]]:
    """Symbol → sequence and digest of its book, and the batch of the journal that they are of."""
    return engine.state()


def create_app(runtime: Runtime, engine: Engine) -> FastAPI:
    """The web application of the role."""
    app = web.create_app(runtime, router)
    app.state.engine = engine
    return app


def create_engine(runtime: Runtime, marks: Marks, settings: MatchingSettings) -> Engine:
    """The engine of a process; raises ConfigurationError."""
    database = runtime.backends.database
    wallet = WalletSettings.load()
    funds = Wallet.of(database, wallet).orders
    lease = Lease(database, LEASE, "", settings.lease_seconds)
    parts = Parts(
        Store.of(database, lease, funds),
        runtime.backends.bus,
        LimitsRepository(database),
        marks,
        wallet.fees,
        settings,
        system_clock,
    )

    def tell(ready: bool, reason: str) -> None:
        if not runtime.stopping.is_set():
            runtime.ready, runtime.pending = ready, reason

    return Engine(parts, tell)


async def serve(runtime: Runtime) -> None:
    """Run the role."""
    backends = runtime.backends
    marks = Marks(backends.bus, backends.cache)
    settings = MatchingSettings.load()
    engine = create_engine(runtime, marks, settings)
    engine_task: asyncio.Task[None] | None = None

    def started() -> asyncio.Task[None]:
        nonlocal engine_task
        if engine_task is None or engine_task.done():
            engine.lease.address = settings.advertised_address or _address(runtime)
            engine_task = asyncio.create_task(engine.run(runtime.stopping))
        return engine_task

    async def prepare() -> None:
        await marks.load()
        task, known = started(), asyncio.create_task(engine.settled.wait())
        await asyncio.wait((task, known), return_when=asyncio.FIRST_COMPLETED)
        known.cancel()
        if task.done():
            task.result()

    async def lead() -> None:
        await started()

    server = web.HttpServer(runtime, create_app(runtime, engine))
    await runtime.serve(server, lead, marks.follow, prepare=prepare, handed_over=engine.ended)


def _address(runtime: Runtime) -> str:
    """Where callers find this replica: on the loopback address when it listens on nothing else."""
    url = runtime.directory[runtime.role.name]
    if runtime.settings.host.startswith("127."):
        return url
    return f"http://{socket.gethostbyname(socket.gethostname())}:{urlsplit(url).port}"
