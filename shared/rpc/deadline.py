"""How much time the call being served has left."""

import time
from contextvars import ContextVar
from typing import Final

_EXPIRY: Final[ContextVar[float | None]] = ContextVar("laurel_rpc_expiry", default=None)


def time_remaining() -> float | None:
    """Seconds until the deadline of the call being served, never negative; None where there is none.

    It belongs to the handler. A task that a handler starts inherits it: pass a time-out to what outlives the
    call.
    """
    expiry = _EXPIRY.get()
    return None if expiry is None else max(0.0, expiry - time.monotonic())


def begin(seconds: float | None) -> None:
    """Note the deadline of a call; each is served in a task, and so a context, of its own."""
    _EXPIRY.set(None if seconds is None else time.monotonic() + seconds)
