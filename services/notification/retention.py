"""What is kept, and for how long."""

from datetime import timedelta
from typing import Final

from services.notification.config import Settings
from services.notification.store.deliveries import DeliveryStore
from services.notification.store.endpoints import EndpointStore
from services.notification.store.following import FollowingStore
from services.notification.store.messages import MessageStore
from shared.clock import Clock

_TRIMS_AT_ONCE: Final = 200
_WAYPOINTS_KEPT: Final = timedelta(days=400)
"""Longer than the feed may be kept by default; a row a minute."""


class Retention:
    """Deletes what is older than it has to be, in bounded statements."""

    def __init__(
        self,
        endpoints: EndpointStore,
        deliveries: DeliveryStore,
        following: FollowingStore,
        messages: MessageStore,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._endpoints = endpoints
        self._deliveries = deliveries
        self._following = following
        self._messages = messages
        self._kept = settings.webhook_retention
        self._messages_kept = timedelta(days=settings.message_retention_days)
        self._clock = clock

    async def keep(self) -> None:
        """A bounded part of what is due."""
        now = self._clock.now()
        await self._endpoints.forget_expired(now)
        await self._following.trim(now - _WAYPOINTS_KEPT)
        await self._messages.trim(now - self._messages_kept)
        endpoint_ids = [endpoint.endpoint_id for endpoint in (await self._endpoints.current()).all]
        for _ in range(_TRIMS_AT_ONCE):
            if not await self._deliveries.trim(endpoint_ids, now - self._kept):
                return
