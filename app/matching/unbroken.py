"""Work that a cancel does not cut off in the middle."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

GRACE_SECONDS: Final = 1.0
T = TypeVar("T")


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives. When this is cancelled, the work has a second to come to its end first.

    A transaction of SQLite that is cut off while it waits for its lock would keep that lock afterwards.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,), timeout=GRACE_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise
