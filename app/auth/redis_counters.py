"""Counters on Redis or Valkey; each script works on one key, so a cluster of shards will do."""

from app.auth.counters import Counters, Limit, counter_name
from app.kit.cache.redis import RedisCache

_ATTEMPT = """
local now = tonumber(ARGV[1])
local until_ = tonumber(redis.call('HGET', KEYS[1], 'until') or '0')
if until_ > now then return until_ - now end
local count = redis.call('HINCRBY', KEYS[1], 'count', 1)
local free = tonumber(ARGV[2])
if count >= free then
  local pause = math.min(tonumber(ARGV[3]) * 2 ^ math.min(count - free, 60), tonumber(ARGV[4]))
  redis.call('HSET', KEYS[1], 'until', string.format('%d', now + pause))
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 0
"""
"""Milliseconds: now, then the pauses and the life of the count. Returns the milliseconds to wait."""

_TAKE_BACK = """
local count = tonumber(redis.call('HGET', KEYS[1], 'count') or '0')
if count > 0 then
  redis.call('HINCRBY', KEYS[1], 'count', -1)
  if count <= tonumber(ARGV[1]) then redis.call('HDEL', KEYS[1], 'until') end
end
return 0
"""


class RedisCounters(RedisCache, Counters):
    """See `Counters`."""

    async def attempt(self, limit: Limit, subject: str, now: float) -> float:
        """See `Counters`."""
        waits = await self._answer(
            self._redis.eval(
                _ATTEMPT,
                1,
                counter_name(limit, subject),
                _ms(now),
                str(limit.free),
                _ms(limit.first_pause),
                _ms(limit.longest_pause),
                _ms(limit.forgotten_after),
            )
        )
        return int(waits) / 1000

    async def forget(self, limit: Limit, subject: str) -> None:
        """See `Counters`."""
        await self._answer(self._redis.delete(counter_name(limit, subject)))

    async def take_back(self, limit: Limit, subject: str) -> None:
        """See `Counters`."""
        await self._answer(self._redis.eval(_TAKE_BACK, 1, counter_name(limit, subject), str(limit.free)))

    async def first(self, mark: str, now: float, seconds: float) -> bool:
        """See `Counters`. The server counts the seconds."""
        done = await self._answer(
            self._redis.set(f"auth:mark:{mark}", b"1", px=max(1, int(_ms(seconds))), nx=True)
        )
        return done is not None


def _ms(seconds: float) -> str:
    return str(int(seconds * 1000))
