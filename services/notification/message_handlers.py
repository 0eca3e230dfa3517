"""What the service does for each call about messages."""

from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from laurel.notification.v1 import message_pb2
from laurel.notification.v1 import notification_service_pb2 as pb

from services.notification import message_convert as convert
from services.notification.domain.contacts import MessageType
from services.notification.mutations import mutate, note
from services.notification.store.messages import MessageStore
from shared.clock import Clock
from shared.definition_changes import field_changes
from shared.errors import Violations
from shared.masks import updated
from shared.pages import read_page
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import check_request_id, check_user_id


class MessageHandlers:
    """The use cases of operators. Each mutation is one transaction, idempotent by its request id."""

    def __init__(self, pool: Pool, store: MessageStore, clock: Clock) -> None:
        self._pool = pool
        self._store = store
        self._clock = clock

    async def update(self, request: pb.UpdateMessageDefinitionRequest) -> pb.UpdateMessageDefinitionResponse:
        """Say what messages of a type are like, switch them on or off. Raises `InvalidArgument`."""
        violations = Violations()
        check_request_id(request.request_id, "request_id", violations)
        violations.raise_if_any()
        now = self._clock.now()
        type_ = request.message.type
        method = "update_message_definition"

        async def work(connection: Connection) -> Message:
            empty = message_pb2.MessageDefinition(type=type_)
            violations = Violations()
            convert.check_definition(empty, "message", violations)
            violations.raise_if_any()
            row = await self.locked(connection, type_, now)
            before = convert.shown(row)
            wanted = updated(
                before,
                request.message,
                request.update_mask,
                immutable=["type"],
                output_only=convert.OUTPUT_ONLY,
            )
            convert.check_definition(wanted, "message", violations)
            violations.raise_if_any()
            await self.write(connection, method, row, wanted, now)
            stored = await self._store.ensure_definition(connection, type_, b"", now)
            return pb.UpdateMessageDefinitionResponse(message=convert.shown(stored))

        response = pb.UpdateMessageDefinitionResponse()
        await mutate(self._pool, method, request, now, work, response)
        return response

    async def write(
        self,
        connection: Connection,
        method: str,
        row: Any,
        wanted: message_pb2.MessageDefinition,
        now: datetime,
    ) -> None:
        """The messages of a locked row's type are as they are wanted."""
        before = convert.shown(row)
        since = row["since"] if wanted.switched_on == before.switched_on else now
        await self._store.update_definition(connection, wanted.type, convert.stored(wanted), since, now)
        name = MessageType(wanted.type).name.lower()
        await note(connection, method, f"message/{name}", now, field_changes(before, wanted))

    async def locked(self, connection: Connection, type_: int, now: datetime) -> Any:
        """The row of a type; one that says nothing where there was none."""
        empty = convert.stored(message_pb2.MessageDefinition(type=type_))  # type: ignore[arg-type]
        return await self._store.ensure_definition(connection, type_, empty, now)

    async def list_definitions(
        self, request: pb.ListMessageDefinitionsRequest
    ) -> pb.ListMessageDefinitionsResponse:
        """A page of definitions by type."""
        page = read_page(request.page_size, request.page_token, keyset=[int], query=["messages"])
        rows = await self._store.definitions(page.after[0] if page.after else 0, page.size + 1)
        shown = rows[: page.size]
        token = page.next_token(shown[-1]["type"]) if len(rows) > page.size else ""
        return pb.ListMessageDefinitionsResponse(messages=map(convert.shown, shown), next_page_token=token)

    async def list_sent(self, request: pb.ListSentMessagesRequest) -> pb.ListSentMessagesResponse:
        """A page of what was sent to a user, newest first."""
        violations = Violations()
        check_user_id(request.user_id, "user_id", violations)
        violations.raise_if_any()
        query = ["sent_messages", request.user_id]
        page = read_page(request.page_size, request.page_token, keyset=[int], query=query)
        rows = await self._store.sent(request.user_id, page.after[0] if page.after else None, page.size + 1)
        shown = rows[: page.size]
        token = page.next_token(shown[-1]["number"]) if len(rows) > page.size else ""
        return pb.ListSentMessagesResponse(messages=map(convert.sent_to_proto, shown), next_page_token=token)
