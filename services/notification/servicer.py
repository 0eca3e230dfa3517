"""The transport of laurel.notification.v1: message, handler, message."""

from typing import Any

from laurel.notification.v1 import notification_service_pb2 as pb
from laurel.notification.v1 import notification_service_pb2_grpc

from services.notification.applying import ConfigurationHandlers
from services.notification.contact_handlers import ContactHandlers
from services.notification.endpoint_handlers import EndpointHandlers
from services.notification.message_handlers import MessageHandlers
from services.notification.stream_handlers import StreamHandlers


class NotificationServicer(notification_service_pb2_grpc.NotificationServiceServicer):
    """One method for each RPC. Errors become statuses in `shared.rpc.boundary`."""

    def __init__(
        self,
        endpoints: EndpointHandlers,
        streams: StreamHandlers,
        contacts: ContactHandlers,
        messages: MessageHandlers,
        configuration: ConfigurationHandlers,
    ) -> None:
        self._endpoints = endpoints
        self._streams = streams
        self._contacts = contacts
        self._messages = messages
        self._configuration = configuration

    async def CreateWebhookEndpoint(
        self, request: pb.CreateWebhookEndpointRequest, _context: Any
    ) -> pb.CreateWebhookEndpointResponse:
        """Creates an endpoint."""
        response = pb.CreateWebhookEndpointResponse()
        await self._endpoints.create(request, response)
        return response

    async def GetWebhookEndpoint(
        self, request: pb.GetWebhookEndpointRequest, _context: Any
    ) -> pb.GetWebhookEndpointResponse:
        """Gets an endpoint."""
        return pb.GetWebhookEndpointResponse(endpoint=await self._endpoints.get(request.key))

    async def ListWebhookEndpoints(
        self, request: pb.ListWebhookEndpointsRequest, _context: Any
    ) -> pb.ListWebhookEndpointsResponse:
        """Lists endpoints."""
        found, token = await self._endpoints.list(request.page_size, request.page_token)
        return pb.ListWebhookEndpointsResponse(endpoints=found, next_page_token=token)

    async def UpdateWebhookEndpoint(
        self, request: pb.UpdateWebhookEndpointRequest, _context: Any
    ) -> pb.UpdateWebhookEndpointResponse:
        """Changes an endpoint."""
        response = pb.UpdateWebhookEndpointResponse()
        await self._endpoints.update(request, response)
        return response

    async def DeleteWebhookEndpoint(
        self, request: pb.DeleteWebhookEndpointRequest, _context: Any
    ) -> pb.DeleteWebhookEndpointResponse:
        """Deletes an endpoint."""
        response = pb.DeleteWebhookEndpointResponse()
        await self._endpoints.delete(request, response)
        return response

    async def RotateWebhookSecret(
        self, request: pb.RotateWebhookSecretRequest, _context: Any
    ) -> pb.RotateWebhookSecretResponse:
        """Gives an endpoint a new secret."""
        return await self._endpoints.rotate(request)

    async def TestWebhookEndpoint(
        self, request: pb.TestWebhookEndpointRequest, _context: Any
    ) -> pb.TestWebhookEndpointResponse:
        """Sends a test."""
        return pb.TestWebhookEndpointResponse(attempt=await self._endpoints.test(request.key))

    async def ResendWebhookEvent(
        self, request: pb.ResendWebhookEventRequest, _context: Any
    ) -> pb.ResendWebhookEventResponse:
        """Sends an event again."""
        return await self._endpoints.resend(request)

    async def RewindWebhookEndpoint(
        self, request: pb.RewindWebhookEndpointRequest, _context: Any
    ) -> pb.RewindWebhookEndpointResponse:
        """Sends all again since an instant."""
        return await self._endpoints.rewind(request)

    async def ListWebhookAttempts(
        self, request: pb.ListWebhookAttemptsRequest, _context: Any
    ) -> pb.ListWebhookAttemptsResponse:
        """Lists attempts."""
        found, token = await self._endpoints.list_attempts(request)
        return pb.ListWebhookAttemptsResponse(attempts=found, next_page_token=token)

    async def CreateEventStream(
        self, request: pb.CreateEventStreamRequest, _context: Any
    ) -> pb.CreateEventStreamResponse:
        """Creates a stream."""
        response = pb.CreateEventStreamResponse()
        await self._streams.create(request, response)
        return response

    async def GetEventStream(
        self, request: pb.GetEventStreamRequest, _context: Any
    ) -> pb.GetEventStreamResponse:
        """Gets a stream."""
        return pb.GetEventStreamResponse(stream=await self._streams.get(request.key))

    async def ListEventStreams(
        self, request: pb.ListEventStreamsRequest, _context: Any
    ) -> pb.ListEventStreamsResponse:
        """Lists streams."""
        found, token = await self._streams.list(request.page_size, request.page_token)
        return pb.ListEventStreamsResponse(streams=found, next_page_token=token)

    async def UpdateEventStream(
        self, request: pb.UpdateEventStreamRequest, _context: Any
    ) -> pb.UpdateEventStreamResponse:
        """Changes a stream."""
        response = pb.UpdateEventStreamResponse()
        await self._streams.update(request, response)
        return response

    async def DeleteEventStream(
        self, request: pb.DeleteEventStreamRequest, _context: Any
    ) -> pb.DeleteEventStreamResponse:
        """Deletes a stream."""
        response = pb.DeleteEventStreamResponse()
        await self._streams.delete(request, response)
        return response

    async def RewindEventStream(
        self, request: pb.RewindEventStreamRequest, _context: Any
    ) -> pb.RewindEventStreamResponse:
        """Publishes all again since an instant."""
        return await self._streams.rewind(request)

    async def UpdateContact(
        self, request: pb.UpdateContactRequest, _context: Any
    ) -> pb.UpdateContactResponse:
        """Says how a user can be reached."""
        return await self._contacts.update(request)

    async def GetContact(self, request: pb.GetContactRequest, _context: Any) -> pb.GetContactResponse:
        """Gets how a user can be reached."""
        return pb.GetContactResponse(contact=await self._contacts.get(request.user_id))

    async def DeleteContact(
        self, request: pb.DeleteContactRequest, _context: Any
    ) -> pb.DeleteContactResponse:
        """Forgets how a user can be reached."""
        return await self._contacts.delete(request)

    async def AddDevice(self, request: pb.AddDeviceRequest, _context: Any) -> pb.AddDeviceResponse:
        """Adds a device."""
        return await self._contacts.add_device(request)

    async def RemoveDevice(self, request: pb.RemoveDeviceRequest, _context: Any) -> pb.RemoveDeviceResponse:
        """Removes a device."""
        return await self._contacts.remove_device(request)

    async def Unsubscribe(self, request: pb.UnsubscribeRequest, _context: Any) -> pb.UnsubscribeResponse:
        """Does what a link says."""
        return await self._contacts.unsubscribe(request.token)

    async def UpdateMessageDefinition(
        self, request: pb.UpdateMessageDefinitionRequest, _context: Any
    ) -> pb.UpdateMessageDefinitionResponse:
        """Says what messages of a type are like."""
        return await self._messages.update(request)

    async def ListMessageDefinitions(
        self, request: pb.ListMessageDefinitionsRequest, _context: Any
    ) -> pb.ListMessageDefinitionsResponse:
        """Lists the messages of all types."""
        return await self._messages.list_definitions(request)

    async def ApplyConfiguration(
        self, request: pb.ApplyConfigurationRequest, _context: Any
    ) -> pb.ApplyConfigurationResponse:
        """Makes everything what a configuration says."""
        return await self._configuration.apply(request)

    async def ListSentMessages(
        self, request: pb.ListSentMessagesRequest, _context: Any
    ) -> pb.ListSentMessagesResponse:
        """Lists what was sent to a user."""
        return await self._messages.list_sent(request)
