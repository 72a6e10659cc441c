"""The task that creates the broker's topics."""

from app.events.registry import FAMILIES
from app.kit import logs
from app.kit.runtime import Runtime, retrying

_log = logs.get(__name__)


async def run(runtime: Runtime) -> None:
    """Wait for the broker and bring its topics to what the event registry says."""
    topics = [family.topic for family in FAMILIES.values()]
    async for attempt in retrying():
        with attempt:
            await runtime.backends.bus.ensure(topics)
    _log.info("topics are as registered", topics=[topic.name for topic in topics])
