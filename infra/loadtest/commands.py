"""`tradestack loadtest …`"""

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from infra.errors import TradestackError
from infra.loadtest.arrival import MAX_COUNT, Arrival
from infra.options import AsJson

app = typer.Typer(
    help="Load what runs here, and time it from the moment each request was due.", no_args_is_help=True
)

Rate = Annotated[float, typer.Option(help="Requests a second.", min=0.01, max=100_000)]
Seconds = Annotated[float, typer.Option(help="How long requests become due.", min=0.1, max=86_400)]
Count = Annotated[int, typer.Option(help="Requests at most.", min=1, max=MAX_COUNT)]
ArrivalOption = Annotated[Arrival, typer.Option("--arrival", help="How requests follow each other.")]
Seed = Annotated[int, typer.Option(help="Of everything that is chosen at random.")]
Connections = Annotated[int, typer.Option(help="Connections kept open.", min=1, max=20_000)]
Timeout = Annotated[
    float, typer.Option(help="Seconds to wait for what is open at the end.", min=0.1, max=600)
]
P99 = Annotated[float | None, typer.Option("--p99-ms", help="Exit with 1 when p99 is above.", min=0)]
Failed = Annotated[float, typer.Option("--failed", help="Share of failures to accept, 0 to 1.", min=0, max=1)]
Out = Annotated[Path | None, typer.Option(help="Directory for result.json and report.html.")]
Remote = Annotated[
    bool, typer.Option("--allow-remote", help="Load a target outside this machine and its clusters.")
]
Ca = Annotated[Path | None, typer.Option(help="Certificates (PEM) to trust for https and wss.")]
Symbols = Annotated[str, typer.Option(help="Symbols, separated by commas.")]


@app.callback()
def loadtest() -> None:
    """Load what runs here, and time it from the moment each request was due."""


@app.command()
def http(
    urls: Annotated[list[str], typer.Argument(help="URLs of one server, asked for in turn.", metavar="URL…")],
    rate: Rate = 100,
    seconds: Seconds = 10,
    count: Count = MAX_COUNT,
    arrival: ArrivalOption = Arrival.FIXED,
    seed: Seed = 1,
    connections: Connections = 100,
    timeout: Timeout = 30,
    p99_ms: P99 = None,
    failed: Failed = 0,
    out: Out = None,
    ca: Ca = None,
    allow_remote: Remote = False,
    as_json: AsJson = False,
) -> None:
    """GET requests at a rate that answers do not slow down."""
    from infra.loadtest import runs, target
    from infra.loadtest.arrival import Schedule
    from infra.loadtest.result import Limits

    for url in urls:
        parts = target.check(url, ("http", "https"), allow_remote=allow_remote)
        if (parts.scheme, parts.netloc) != urlsplit(urls[0])[:2]:
            raise TradestackError(f"{url} is another server than {urls[0]}")
    schedule = Schedule(rate, seconds, count, arrival, seed)
    tls = target.trusted(urls, ca)
    document = runs.http(urls, schedule, connections, timeout, Limits(p99_ms, failed), tls)
    _finish(document, out, as_json=as_json)


@app.command()
def orders(
    url: Annotated[str, typer.Argument(help="Base URL of the gateway, or of the role order.")],
    symbols: Symbols = "BTC-USD,ETH-USD",
    prices: Annotated[
        list[str] | None,
        typer.Option("--price", help="SYMBOL=PRICE to place around; else the instrument's first."),
    ] = None,
    tokens: Annotated[Path | None, typer.Option(help="File of access tokens, one a line.")] = None,
    users: Annotated[
        Path | None, typer.Option(help="File of users, an email and a password a line; tokens are renewed.")
    ] = None,
    email: Annotated[str | None, typer.Option(help="Log in as this user, without a file.")] = None,
    password: Annotated[
        str | None, typer.Option(envvar="TRADESTACK_LOADTEST_PASSWORD", help="Of the user.")
    ] = None,
    auth_url: Annotated[
        str | None, typer.Option(help="Base URL of the role auth; else the same URL.")
    ] = None,
    rate: Rate = 50,
    seconds: Seconds = 10,
    count: Count = MAX_COUNT,
    arrival: ArrivalOption = Arrival.FIXED,
    seed: Seed = 1,
    connections: Connections = 100,
    timeout: Timeout = 30,
    p99_ms: P99 = None,
    failed: Failed = 0,
    out: Out = None,
    ca: Ca = None,
    allow_remote: Remote = False,
    as_json: AsJson = False,
) -> None:
    """Limit orders, placed for real: they trade and rest in the books with the users' funds."""
    from infra.loadtest import orders as requests
    from infra.loadtest import runs, target
    from infra.loadtest.arrival import Schedule
    from infra.loadtest.result import Limits
    from infra.loadtest.users import Users, read_accounts, read_tokens

    target.check(url, ("http", "https"), allow_remote=allow_remote)
    markets = requests.markets(_listed(symbols), _prices(prices or []))
    at = target.check(auth_url or url, ("http", "https"), allow_remote=allow_remote)
    tls = target.trusted([url, at.geturl()], ca)
    if sum((tokens is not None, users is not None, email is not None)) != 1:
        raise typer.BadParameter("orders need one of --tokens, --users, and --email with --password")
    if tokens is not None:
        held = Users.of_tokens(read_tokens(tokens), seconds)
    elif users is not None:
        held = Users.logged_in(at, read_accounts(users), tls)
    elif email is not None and password is not None:
        held = Users.logged_in(at, [(email, password)], tls)
    else:
        raise typer.BadParameter("a password is needed", param_hint="--password")
    schedule = Schedule(rate, seconds, count, arrival, seed)
    document = runs.orders(url, held, markets, schedule, connections, timeout, Limits(p99_ms, failed), tls)
    _finish(document, out, as_json=as_json)


@app.command()
def ws(
    urls: Annotated[
        list[str],
        typer.Argument(
            help="Of the price stream, such as ws://127.0.0.1:8080/ws; connections take turns.",
            metavar="URL…",
        ),
    ],
    symbols: Symbols = "BTC-USD,ETH-USD",
    each: Annotated[int, typer.Option(help="Symbols of a connection, taken in turn.", min=1, max=500)] = 1,
    channels: Annotated[
        str, typer.Option(help="Such as ticker,trades,candles:1m; without any, what servers give.")
    ] = "",
    resume: Annotated[
        bool, typer.Option("--resume", help="Connect again when asked to, and go on without a gap.")
    ] = False,
    connections: Connections = 100,
    clients_per_address: Annotated[
        int | None,
        typer.Option(
            help="Connections of one source address of 127.0.0.0/8; else all have one.", min=1, max=20_000
        ),
    ] = None,
    connect_rate: Annotated[
        float, typer.Option(help="Connections opened a second.", min=0.1, max=5_000)
    ] = 200,
    arrival: ArrivalOption = Arrival.FIXED,
    seed: Seed = 1,
    seconds: Annotated[
        float, typer.Option(help="How long to listen once all are open.", min=0.1, max=86_400)
    ] = 10,
    count: Annotated[int, typer.Option(help="Messages at most.", min=1, max=MAX_COUNT)] = MAX_COUNT,
    timeout: Annotated[
        float, typer.Option(help="Seconds for a handshake, and to come back.", min=0.1, max=600)
    ] = 10,
    p99_ms: P99 = None,
    failed: Failed = 0,
    out: Out = None,
    ca: Ca = None,
    allow_remote: Remote = False,
    as_json: AsJson = False,
) -> None:
    """WebSocket connections to the price stream: connecting, delivery and gaps."""
    from infra.loadtest import runs, target
    from infra.loadtest.arrival import Schedule
    from infra.loadtest.result import Limits
    from infra.loadtest.stream import Listening

    for url in urls:
        parts = target.check(url, ("ws", "wss"), allow_remote=allow_remote)
        if clients_per_address is not None:
            target.check_sources(parts)
    names = _listed(symbols)
    listening = Listening(
        urls=urls,
        symbols=names,
        each=min(each, len(names)),
        channels=_listed(channels) if channels else (),
        resume=resume,
        clients_per_address=clients_per_address,
        tls=target.trusted(urls, ca),
        timeout=timeout,
    )
    # Poisson arrivals have no end of their own in time: their number is what bounds them.
    opening = float("inf") if arrival is Arrival.POISSON else connections / connect_rate
    schedule = Schedule(connect_rate, opening, connections, arrival, seed)
    document = runs.ws(listening, schedule, seconds, count, Limits(p99_ms, failed))
    _finish(document, out, as_json=as_json)


def _listed(text: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise typer.BadParameter(f"{text!r} names nothing: names are separated by commas")
    return names


def _prices(given: list[str]) -> dict[str, Decimal]:
    found = {}
    for text in given:
        symbol, _, price = text.partition("=")
        try:
            found[symbol] = Decimal(price)
        except InvalidOperation:
            raise typer.BadParameter(f"{text!r} is not SYMBOL=PRICE", param_hint="--price") from None
        if not (found[symbol].is_finite() and found[symbol] > 0):
            raise typer.BadParameter(f"{text!r}: a price is above 0", param_hint="--price")
    return found


def _finish(document: dict[str, object], out: Path | None, *, as_json: bool) -> None:
    """Write and print a result; exits with its code."""
    import json

    from infra.loadtest import report, result

    text = json.dumps(document, indent=2)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / "result.json").write_text(text + "\n")
            (out / "report.html").write_text(report.html(document), encoding="utf-8")
        except OSError as error:
            typer.echo(text)
            raise TradestackError(f"{out} cannot be written: {error}") from None
    if as_json:
        typer.echo(text)
    else:
        for line in report.lines(document):
            typer.echo(line)
        if out is not None:
            typer.echo(out / "report.html")
    raise typer.Exit(result.exit_code(document))
