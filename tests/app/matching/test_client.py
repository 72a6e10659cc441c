"""What other roles can rely on when they speak with the engine, whatever happens to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from app.kit.errors import Unavailable
from app.kit.problems import Problem
from app.kit.runtime import Backends, Runtime
from app.kit.settings import Settings
from app.matching_client import client as module
from app.matching_client.client import MatchingClient
from app.matching_client.commands import (
    COMMANDS,
    COMMANDS_PATH,
    DEPTH_PATH,
    LARGEST_BATCH,
    NOT_LEADER,
    RELOAD_RISK_PATH,
    REPUBLISH_PATH,
    RESULTS,
    Depth,
    Level,
    OrderState,
    Place,
    Result,
)
from app.roles import ROLES

Reply = tuple[int, bytes]
TOKEN = "t" * 40
PATIENCE = (0.3, 3.0, 30.0)
"""Seconds after which callers give up: the first will do unless this process is held up just then."""


def order(name: str = "a") -> Place:
    return Place(
        owner="u", client_order_id=name, symbol="AAPL", side="buy", order_type="limit", quantity=5, price=100
    )


def problem(status: int, code: str, **members: object) -> Reply:
    return status, Problem(status, code, "So it is.", headers=None, **members).document()


def answered(*names: str) -> Reply:
    results: list[Result | None] = [
        Result(
            kind="place",
            code="ok",
            orders=(
                OrderState(
                    order_id=1,
                    client_order_id=name,
                    symbol="AAPL",
                    status="open",
                    filled=0,
                    remaining=5,
                    created_at=1,
                ),
            ),
        )
        for name in names
    ]
    return 200, RESULTS.dump_json(results)


@dataclass
class Engine:
    """Stands in for a replica of the engine; `reply` answers a request by its target and body."""

    reply: Callable[["Engine", str, bytes], Reply]
    url: str = ""
    batches: list[list[str]] = field(default_factory=list)
    """Client order ids of each request with commands."""
    targets: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Requests are answered while it is set."""
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = field(default_factory=dict)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections[writer] = task
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:-1])
                body = await reader.readexactly(int(fields.get("content-length", 0)))
                target = head.split(" ")[1]
                async with self.arrived:
                    self.heads.append(head)
                    self.targets.append(target)
                    if target == COMMANDS_PATH:
                        self.batches.append([name(command) for command in COMMANDS.validate_json(body)])
                    self.arrived.notify_all()
                await self.gate.wait()
                status, content = self.reply(self, target, body)
                if status == 0:
                    break
                writer.write(
                    f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def requests(self, number: int) -> None:
        async with asyncio.timeout(30), self.arrived:
            await self.arrived.wait_for(lambda: len(self.targets) >= number)


def name(command: object) -> str:
    assert isinstance(command, Place)
    return command.client_order_id


def everything(engine: Engine, target: str, body: bytes) -> Reply:
    """Takes every command."""
    return answered(*(name(command) for command in COMMANDS.validate_json(body)))


@asynccontextmanager
async def serving(*engines: Engine) -> AsyncIterator[None]:
    servers = [await asyncio.start_server(engine.handle, "127.0.0.1", 0) for engine in engines]
    for engine, server in zip(engines, servers, strict=True):
        engine.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        engine.gate.set()
    try:
        yield
    finally:
        for server in servers:
            server.close()
        for engine in engines:
            engine.gate.set()
            for writer in engine.connections:
                writer.close()
            await asyncio.gather(*engine.connections.values())


@asynccontextmanager
async def calling(url: str, **overrides: object) -> AsyncIterator[MatchingClient]:
    settings = Settings.load(**overrides)
    runtime = Runtime(ROLES["order"], settings, Backends(settings), {"matching-engine": url})
    client = MatchingClient(runtime)
    try:
        yield client
    finally:
        await client.close()


def told(result: Result) -> str:
    return result.orders[0].client_order_id


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers give up soon."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.3)


async def test_commands_that_come_together_go_together() -> None:
    engine = Engine(everything)
    async with serving(engine), calling(engine.url) as client:
        found = await asyncio.gather(*(client.submit(order(str(i))) for i in range(50)))
    assert [told(result) for result in found] == [str(i) for i in range(50)]
    assert engine.batches == [[str(i) for i in range(50)]]


async def test_commands_wait_for_the_request_before_them_and_then_go_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 60)
    engine = Engine(everything)
    async with serving(engine), calling(engine.url) as client:
        engine.gate.clear()
        calls = [asyncio.create_task(client.submit(order("first")))]
        await engine.requests(1)
        calls += [asyncio.create_task(client.submit(order(str(i)))) for i in range(5)]
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(*calls)
    assert engine.batches == [["first"], ["0", "1", "2", "3", "4"]]


async def test_a_slow_request_does_not_keep_the_others_waiting() -> None:
    engine = Engine(everything)
    async with serving(engine), calling(engine.url) as client:
        engine.gate.clear()
        calls = []
        for i in range(module.MOST_REQUESTS + 3):
            calls.append(asyncio.create_task(client.submit(order(str(i)))))
            await engine.requests(min(i + 1, module.MOST_REQUESTS))
        assert engine.batches == [[str(i)] for i in range(module.MOST_REQUESTS)]
        engine.gate.set()
        await asyncio.gather(*calls)
    assert engine.batches[module.MOST_REQUESTS :] == [["4", "5", "6"]]


async def test_no_request_has_more_commands_than_the_engine_takes() -> None:
    engine = Engine(everything)
    async with serving(engine), calling(engine.url) as client:
        await asyncio.gather(*(client.submit(order(str(i))) for i in range(3 * LARGEST_BATCH + 1)))
    assert sorted(map(len, engine.batches)) == [1, LARGEST_BATCH, LARGEST_BATCH, LARGEST_BATCH]


async def test_the_leader_is_found_and_remembered() -> None:
    leader = Engine(everything)
    follower = Engine(lambda *_: problem(421, NOT_LEADER, leader=leader.url))
    async with serving(leader, follower), calling(follower.url) as client:
        assert told(await client.submit(order("a"))) == "a"
        assert told(await client.submit(order("b"))) == "b"
    assert (follower.batches, leader.batches) == ([["a"]], [["a"], ["b"]])


async def test_a_new_leader_is_found_when_the_old_one_is_gone() -> None:
    old, new = Engine(lambda *_: (0, b"")), Engine(everything)
    addresses = iter(("old", "new"))

    def point(*_: object) -> Reply:
        return problem(421, NOT_LEADER, leader=(old if next(addresses) == "old" else new).url)

    follower = Engine(point)
    async with serving(old, new, follower), calling(follower.url) as client:
        assert told(await client.submit(order())) == "a"
    assert (old.batches, new.batches) == ([["a"]], [["a"]])


async def test_an_election_is_waited_for() -> None:
    replies = iter([problem(421, NOT_LEADER), problem(503, "unavailable"), problem(500, "internal-error")])
    engine = Engine(lambda engine, target, body: next(replies, None) or everything(engine, target, body))
    async with serving(engine), calling(engine.url) as client:
        assert told(await client.submit(order())) == "a"
    assert len(engine.batches) == 4


async def test_two_replicas_that_point_at_each_other_are_no_endless_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def refusal() -> tuple[str, int]:
        """What the caller is told, and how many requests that took."""
        one = Engine(lambda *_: problem(421, NOT_LEADER, leader=two.url))
        two = Engine(lambda *_: problem(421, NOT_LEADER, leader=one.url))
        async with serving(one, two), calling(one.url) as client:
            with pytest.raises(Unavailable) as refused:
                await client.submit(order())
        return str(refused.value), len(one.batches + two.batches)

    for seconds in PATIENCE:
        monkeypatch.setattr(module, "RETRY_SECONDS", seconds)
        reason, requests = await refusal()
        assert requests < 40 * max(1, seconds)
        if "no leader" in reason:
            break
    assert "no leader" in reason


async def test_an_answer_that_was_lost_is_asked_for_again() -> None:
    lost = iter([True])
    engine = Engine(lambda e, target, body: (0, b"") if next(lost, False) else everything(e, target, body))
    async with serving(engine), calling(engine.url) as client:
        assert told(await client.submit(order())) == "a"
    assert engine.batches == [["a"], ["a"]]


@pytest.mark.parametrize("reply", [(0, b""), problem(503, "unavailable"), (200, b"[]"), (200, b"nonsense")])
async def test_a_caller_is_told_when_there_is_no_answer_in_time(
    monkeypatch: pytest.MonkeyPatch, reply: Reply
) -> None:
    engine = Engine(lambda *_: reply)
    for seconds in PATIENCE:
        monkeypatch.setattr(module, "RETRY_SECONDS", seconds)
        engine.batches.clear()
        async with serving(engine), calling(engine.url) as client:
            with pytest.raises(Unavailable, match="matching-engine"):
                await client.submit(order())
        if len(engine.batches) > 1:
            break
    assert len(engine.batches) > 1


async def test_an_engine_that_hangs_keeps_nobody_for_ever(
    hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(everything)
    async with serving(engine), calling(engine.url) as client:
        engine.gate.clear()
        with pytest.raises(Unavailable, match="in time"):
            await client.submit(order())
        monkeypatch.setattr(module, "RETRY_SECONDS", 30.0)
        engine.gate.set()
        assert told(await client.submit(order("b"))) == "b"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "nonsense", "https://127.0.0.1", "http://[", "http://a:b"]
)
async def test_an_engine_that_is_not_there_is_unavailable(hurried: None, url: str) -> None:
    async with calling(url) as client:
        with pytest.raises(Unavailable):
            await client.submit(order())


async def test_only_what_was_not_carried_out_is_asked_again() -> None:
    first = iter([True])

    def half(engine: Engine, target: str, body: bytes) -> Reply:
        results = RESULTS.validate_json(everything(engine, target, body)[1])
        return 200, RESULTS.dump_json([None, *results[1:]] if next(first, False) else results)

    engine = Engine(half)
    async with serving(engine), calling(engine.url) as client:
        found = await asyncio.gather(*(client.submit(order(str(i))) for i in range(3)))
    assert [told(result) for result in found] == ["0", "1", "2"]
    assert engine.batches == [["0", "1", "2"], ["0"]]


async def test_a_refusal_reaches_the_caller_who_caused_it_and_nobody_else() -> None:
    def picky(engine: Engine, target: str, body: bytes) -> Reply:
        if b'"bad"' in body:
            return problem(422, "invalid-request")
        return everything(engine, target, body)

    engine = Engine(picky)
    async with serving(engine), calling(engine.url) as client:
        calls = [client.submit(order(name)) for name in ("a", "b", "bad", "c", "d")]
        (*found,) = await asyncio.gather(*calls, return_exceptions=True)
    bad = found.pop(2)
    assert isinstance(bad, Problem)
    assert (bad.status, bad.code) == (422, "invalid-request")
    assert [told(result) for result in found if isinstance(result, Result)] == ["a", "b", "c", "d"]


async def test_a_caller_who_leaves_breaks_nothing_for_the_others() -> None:
    engine = Engine(everything)
    async with serving(engine), calling(engine.url) as client:
        engine.gate.clear()
        calls = [asyncio.create_task(client.submit(order(str(i)))) for i in range(3)]
        await engine.requests(1)
        waiting = asyncio.create_task(client.submit(order("unsent")))
        await asyncio.sleep(0)
        calls[1].cancel()
        waiting.cancel()
        engine.gate.set()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert told(await client.submit(order("after"))) == "after"
    assert [told(r) if isinstance(r, Result) else type(r) for r in found] == [
        "0",
        asyncio.CancelledError,
        "2",
    ]
    assert engine.batches == [["0", "1", "2"], ["after"]]


async def test_closing_tells_those_who_wait() -> None:
    engine = Engine(everything)
    async with serving(engine), calling(engine.url) as client:
        engine.gate.clear()
        sent = asyncio.create_task(client.submit(order("sent")))
        await engine.requests(1)
        waits = asyncio.create_task(client.submit(order("waits")))
        await asyncio.sleep(0)
        await client.close()
        found = await asyncio.gather(sent, waits, return_exceptions=True)
    assert [type(error) for error in found] == [Unavailable, Unavailable]


async def test_the_internal_token_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app_internal_token").write_text(TOKEN)
    monkeypatch.setenv("APP_SECRETS_DIR", str(tmp_path))
    engine = Engine(everything)
    async with serving(engine), calling(engine.url) as client:
        await client.submit(order())
    assert f"X-Internal-Token: {TOKEN}\r\n" in engine.heads[0]


async def test_depth_republishing_and_limits() -> None:
    depth = Depth(
        symbol="AAPL",
        sequence=9,
        phase="continuous",
        last_price=100,
        bids=(Level(price=99, quantity=5),),
        asks=(),
    )
    bodies: list[bytes] = []

    def rest(engine: Engine, target: str, body: bytes) -> Reply:
        bodies.append(body)
        return (200, depth.model_dump_json().encode()) if target.startswith(DEPTH_PATH) else (204, b"")

    engine = Engine(rest)
    async with serving(engine), calling(engine.url) as client:
        assert await client.depth("AAPL", 20) == depth
        await client.republish("AAPL", 7)
        await client.reload_risk()
    assert engine.targets == [f"{DEPTH_PATH}?symbol=AAPL&levels=20", REPUBLISH_PATH, RELOAD_RISK_PATH]
    assert [orjson.loads(body) if body else None for body in bodies] == [
        None,
        {"symbol": "AAPL", "after": 7},
        None,
    ]


async def test_questions_are_asked_again_and_given_up_like_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = iter([problem(503, "unavailable"), (0, b"")])
    engine = Engine(lambda *_: next(replies, None) or (204, b""))
    async with serving(engine), calling(engine.url) as client:
        await client.republish("AAPL", 7)
    assert len(engine.targets) == 3
    refusing = Engine(lambda *_: problem(409, "not-in-journal"))
    async with serving(refusing), calling(refusing.url) as client:
        with pytest.raises(Problem, match="So it is"):
            await client.republish("AAPL", 7)
    assert len(refusing.targets) == 1
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.3)
    async with calling("http://127.0.0.1:9") as client:
        with pytest.raises(Unavailable):
            await client.depth("AAPL", 5)
