"""What the service does for each call about contacts."""

from google.protobuf.message import Message
from laurel.notification.v1 import contact_pb2
from laurel.notification.v1 import notification_service_pb2 as pb

from services.notification import contact_convert as convert
from services.notification.config import MAX_DEVICES
from services.notification.domain.contacts import Device, PushProvider
from services.notification.domain.links import link_claims
from services.notification.mutations import mutate
from services.notification.store.contacts import ContactStore
from shared.clock import Clock
from shared.errors import FailedPrecondition, NotFound, Violations
from shared.masks import updated
from shared.postgres.pool import Connection, Pool
from shared.rpc.convert import check_request_id, check_user_id


class ContactHandlers:
    """The use cases of applications. Each mutation is one transaction, idempotent by its request id.

    No reply that is stored has anything of a contact in it (docs/adr/0019).
    """

    def __init__(self, pool: Pool, contacts: ContactStore, clock: Clock) -> None:
        self._pool = pool
        self._contacts = contacts
        self._clock = clock

    async def update(self, request: pb.UpdateContactRequest) -> pb.UpdateContactResponse:
        """Say how a user can be reached. Raises `InvalidArgument`."""
        violations = Violations()
        check_request_id(request.request_id, "request_id", violations)
        check_user_id(request.contact.user_id, "contact.user_id", violations)
        violations.raise_if_any()
        user_id = request.contact.user_id
        now = self._clock.now()

        async def work(connection: Connection) -> Message:
            before = convert.shown(await self._contacts.ensure(connection, user_id, now), [])
            wanted = updated(
                before,
                request.contact,
                request.update_mask,
                immutable=["user_id"],
                output_only=convert.OUTPUT_ONLY,
            )
            violations = Violations()
            convert.check_contact(wanted, "contact", violations)
            violations.raise_if_any()
            await self._contacts.update(connection, user_id, convert.stored(wanted), now)
            return pb.UpdateContactResponse()

        response = pb.UpdateContactResponse()
        await mutate(self._pool, "update_contact", request, now, work, response)
        response.contact.CopyFrom(await self.get(user_id))
        return response

    async def get(self, user_id: str) -> contact_pb2.Contact:
        """How a user can be reached. Raises `NotFound`."""
        violations = Violations()
        check_user_id(user_id, "user_id", violations)
        violations.raise_if_any()
        row = await self._contacts.get(user_id)
        if row is None:
            raise _unknown(user_id)
        return convert.shown(row, await self._contacts.devices(user_id))

    async def delete(self, request: pb.DeleteContactRequest) -> pb.DeleteContactResponse:
        """Forget how a user can be reached. Raises `NotFound`."""
        violations = Violations()
        check_request_id(request.request_id, "request_id", violations)
        check_user_id(request.user_id, "user_id", violations)
        violations.raise_if_any()

        async def work(connection: Connection) -> Message:
            if await self._contacts.get(request.user_id, connection) is None:
                raise _unknown(request.user_id)
            await self._contacts.delete(connection, request.user_id)
            return pb.DeleteContactResponse()

        response = pb.DeleteContactResponse()
        await mutate(self._pool, "delete_contact", request, self._clock.now(), work, response)
        return response

    async def add_device(self, request: pb.AddDeviceRequest) -> pb.AddDeviceResponse:
        """A device is this user's. Raises `FailedPrecondition` for one too many."""
        device = _checked(request)
        now = self._clock.now()

        async def work(connection: Connection) -> Message:
            await self._contacts.ensure(connection, request.user_id, now)
            await self._contacts.add_device(connection, request.user_id, device, now)
            if len(await self._contacts.devices(request.user_id, connection)) > MAX_DEVICES:
                raise FailedPrecondition(
                    f"the user has {MAX_DEVICES} devices already", reason="TOO_MANY_DEVICES"
                )
            return pb.AddDeviceResponse()

        response = pb.AddDeviceResponse()
        await mutate(self._pool, "add_device", request, now, work, response)
        return response

    async def remove_device(self, request: pb.RemoveDeviceRequest) -> pb.RemoveDeviceResponse:
        """A device is not this user's any more; one that was not is no error."""
        device = _checked(request)

        async def work(connection: Connection) -> Message:
            await self._contacts.remove_device(connection, request.user_id, device)
            return pb.RemoveDeviceResponse()

        response = pb.RemoveDeviceResponse()
        await mutate(self._pool, "remove_device", request, self._clock.now(), work, response)
        return response

    async def unsubscribe(self, token: str) -> pb.UnsubscribeResponse:
        """What a link says; again, it says the same. Raises `InvalidArgument` for a link that nobody signed."""
        claims = link_claims(token, await self._contacts.link_secret())
        if claims is None:
            violations = Violations()
            violations.add("token", "must be that of a link that was sent")
            violations.raise_if_any()
        assert claims is not None
        user_id, type_, channel = claims
        refusal = convert.refusal_to_proto(type_, channel)
        async with self._pool.acquire() as connection, connection.transaction():
            row = await self._contacts.get(user_id, connection)
            # A user of whom nothing is known gets nothing.
            if row is not None:
                contact = convert.shown(row, [])
                if not convert.contact_of(contact).refuses(type_, channel):
                    contact.refusals.append(refusal)
                    await self._contacts.update(
                        connection, user_id, convert.stored(contact), self._clock.now()
                    )
        return pb.UnsubscribeResponse(refusal=refusal)


def _checked(request: pb.AddDeviceRequest | pb.RemoveDeviceRequest) -> Device:
    violations = Violations()
    check_request_id(request.request_id, "request_id", violations)
    check_user_id(request.user_id, "user_id", violations)
    convert.check_device(request.device, "device", violations)
    violations.raise_if_any()
    return Device(PushProvider(request.device.provider), request.device.token)


def _unknown(user_id: str) -> NotFound:
    return NotFound(
        "nothing is known of how the user can be reached",
        reason="CONTACT_NOT_FOUND",
        metadata={"user_id": user_id},
    )
