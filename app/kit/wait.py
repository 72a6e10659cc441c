"""Wait until other servers take connections: what the init container of a pod runs."""

import asyncio
import sys
from collections.abc import Sequence

from app.kit.errors import ConfigurationError

_ATTEMPT_SECONDS = 3.0
_PAUSE_SECONDS = 0.5


async def until_open(addresses: Sequence[str]) -> None:
    """Return when every `host:port` has taken a connection; tells on standard error what is waited for.

    Raises:
        ConfigurationError: an address is not `host:port`; nothing was tried.
    """
    targets = [_parse(address) for address in addresses]
    await asyncio.gather(*(_open(host, port) for host, port in targets))


def _parse(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"wait: {address!r} is not host:port, such as postgresql:5432")
    return host, int(port)


async def _open(host: str, port: int) -> None:
    told = None
    while True:
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), _ATTEMPT_SECONDS)
        except (OSError, TimeoutError) as error:
            reason = str(error) or f"no answer in {_ATTEMPT_SECONDS:g} s"
            if reason != told:
                print(f"waiting for {host}:{port}: {reason}", file=sys.stderr, flush=True)
                told = reason
            await asyncio.sleep(_PAUSE_SECONDS)
            continue
        writer.close()
        return
