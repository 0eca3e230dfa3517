"""Rate limits of keys: a bucket for each key in Valkey, one over all replicas of all services (RULES 9.2).

Calls that come while a question is under way travel together in the next one. A limit protects what is behind it; while
Valkey cannot be asked it holds nobody back: calls pass, are counted, and the log says so.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError

from shared.config import Settings
from shared.redis.client import create_client, create_cluster_client
from shared.rpc.access import Rate
from shared.telemetry import Telemetry
from shared.telemetry.metrics import Kind, Metric

_LOGGER: Final = logging.getLogger(__name__)

REFUSED: Final = Metric(
    Kind.COUNTER,
    "laurel.rate_limit.refused",
    "{call}",
    "Calls refused because their key's rate limit was reached.",
)
UNASKED: Final = Metric(
    Kind.COUNTER,
    "laurel.rate_limit.unasked",
    "{call}",
    "Calls of keys with a rate limit that passed because Valkey could not be asked.",
)
METRICS: Final = (REFUSED, UNASKED)
"""What every service measures of them."""

TIMEOUT_SECONDS: Final = 0.25
"""Of one question: a call waits no longer than this for its key's bucket."""
_ASK_AGAIN_SECONDS: Final = 1.0
"""After a question without an answer."""
_KEY_PREFIX: Final = "laurel-rate:"

# A bucket is the instant at which it is full again, in microseconds of the server's clock: what was taken and has not
# flowed back yet. Returns for how many microseconds to wait; 0: taken.
_TAKE: Final = """
local told = redis.call('TIME')
local now = told[1] * 1000000 + told[2]
local each, burst, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local wait = full + (math.min(count, burst) - burst) * each - now
if wait > 0 then return math.ceil(wait) end
full = full + count * each
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1)
return 0
"""


class _Question(Struct):
    rate: Rate
    count: int
    answer: "asyncio.Future[float]"


class RateLimits:
    """Takes from the buckets of keys."""

    def __init__(
        self,
        client: Redis | RedisCluster | None,
        telemetry: Telemetry,
        monotonic: Callable[[], float] = time.monotonic,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """Without a client nobody is held back."""
        self._client = client
        self._monotonic = monotonic
        self._timeout_seconds = timeout_seconds
        self._refused = REFUSED.counter(telemetry.meter)
        self._unasked = UNASKED.counter(telemetry.meter)
        self._waiting: list[_Question] = []
        self._asking: asyncio.Task[None] | None = None
        self._ask_again = 0.0

    async def take(self, rate: Rate, count: int) -> float:
        """Take so much from the bucket of a key; for how many seconds to wait where that is too much, else 0."""
        if self._client is None or self._monotonic() < self._ask_again:
            self._unasked.add(1)
            return 0.0
        loop = asyncio.get_running_loop()
        question = _Question(rate, count, loop.create_future())
        self._waiting.append(question)
        if self._asking is None or self._asking.done():
            self._asking = loop.create_task(self._ask_all(self._client))
        return await question.answer

    def refused(self) -> None:
        """Counts a call that was refused."""
        self._refused.add(1)

    async def close(self) -> None:
        """Leave the server."""
        if self._client is not None:
            await self._client.aclose()

    async def _ask_all(self, client: Redis | RedisCluster) -> None:
        while self._waiting:
            questions, self._waiting = self._waiting, []
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    waits = await _asked(client, questions)
            except (RedisError, OSError, TimeoutError) as error:
                _LOGGER.warning(
                    "rate limits hold nobody back, the server that counts cannot be asked",
                    extra={"error": str(error) or type(error).__name__, "calls": len(questions)},
                )
                self._ask_again = self._monotonic() + _ASK_AGAIN_SECONDS
                self._unasked.add(len(questions))
                waits = [0.0] * len(questions)
            for question, wait in zip(questions, waits, strict=True):
                if not question.answer.done():
                    question.answer.set_result(wait)


def rate_limits(
    settings: Settings, telemetry: Telemetry, timeout_seconds: float = TIMEOUT_SECONDS
) -> RateLimits:
    """As these settings say; the server is connected to when the first key with a limit is shown."""
    if settings.redis_url is None:
        _LOGGER.warning("LAUREL_REDIS_URL is not set: rate limits of keys hold nobody back here")
        return RateLimits(None, telemetry)
    create: Any = create_cluster_client if settings.redis_cluster else create_client
    client = create(
        settings.redis_url.get_secret_value(),
        client_name=f"{settings.instance}-rates",
        timeout_seconds=timeout_seconds,
        max_connections=2,
    )
    return RateLimits(client, telemetry, timeout_seconds=timeout_seconds)


async def _asked(client: Redis | RedisCluster, questions: list[_Question]) -> list[float]:
    """For how many seconds each has to wait."""
    pipe: Any = client.pipeline(transaction=False) if isinstance(client, Redis) else client.pipeline()
    for question in questions:
        rate = question.rate
        each = 1_000_000 / rate.per_second
        pipe.execute_command("EVAL", _TAKE, 1, _KEY_PREFIX + rate.key_id, each, rate.burst, question.count)
    return [int(wait) / 1e6 for wait in await pipe.execute()]
