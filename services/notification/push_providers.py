"""The providers of push: APNs, FCM and Expo, over HTTP.

What they answer decides: what certainly did not go out can be tried again, what may have gone out is not, and a token
that they call dead is said to be.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import httpx
import jwt
from jwt.exceptions import PyJWTError

from services.notification.domain.messages import TOO_LATE, MessageState
from services.notification.push import Note, Pushed, Receipt
from shared.clock import Clock

_APNS_TOKEN_LIFE: Final = timedelta(minutes=45)
"""APNs takes a token for an hour, and no new one more often than every 20 minutes."""
_FCM_SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
_FCM_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_FCM_TOKEN_LIFE: Final = timedelta(hours=1)
_EARLY: Final = timedelta(minutes=5)
"""So long before its end an access token is not shown any more."""
_LIFE_SECONDS: Final = int(TOO_LATE.total_seconds())
"""For so long a provider keeps what a device cannot be reached for."""
_NOT_SENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_APNS_DEAD: Final = frozenset({"BadDeviceToken", "Unregistered", "ExpiredToken"})
_EXPO_DEAD: Final = "DeviceNotRegistered"
_EXPO_LATER: Final = frozenset({"MessageRateExceeded", "InvalidCredentials"})
_LATER: Final = frozenset({401, 403, 429, 503})
"""Our own credentials, too much at once, or away: nothing has gone out."""
MOST_RECEIPTS: Final = 1_000
"""So many Expo tells at once."""


class Apns:
    """Apple Push Notification service, by a key (token-based), over HTTP/2."""

    def __init__(
        self, url: str, key: str, key_id: str, team_id: str, topic: str, timeout_seconds: float, clock: Clock
    ) -> None:
        self._client = httpx.AsyncClient(
            base_url=url, http1=False, http2=True, timeout=timeout_seconds, trust_env=False
        )
        self._key = key
        self._key_id = key_id
        self._team_id = team_id
        self._topic = topic
        self._clock = clock
        self._token: tuple[datetime, str] | None = None

    async def push(self, token: str, note: Note) -> Pushed:
        """Bring it to a device."""
        alert = {"title": note.title, "body": note.body}
        payload = {"aps": {"alert": alert, "sound": "default"}, "laurel": note.data}
        now = self._clock.now()
        try:
            headers = {
                "authorization": f"bearer {self._authorization(now)}",
                "apns-topic": self._topic,
                "apns-push-type": "alert",
                "apns-priority": "10",
                "apns-expiration": str(int(now.timestamp()) + _LIFE_SECONDS),
                "apns-collapse-id": note.message_id,
            }
            answer = await self._client.post(
                f"/3/device/{quote(token, safe='')}", json=payload, headers=headers
            )
        except (httpx.HTTPError, httpx.InvalidURL, PyJWTError, ValueError) as error:
            return _failed(error)
        if answer.status_code == 200:
            return Pushed(MessageState.SENT)
        reason = str(_body(answer).get("reason", ""))
        if answer.status_code == 410 or reason in _APNS_DEAD:
            return Pushed(MessageState.REFUSED, reason, is_dead=True)
        if answer.status_code == 403:
            self._token = None
        return _answered(answer, reason)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    def _authorization(self, now: datetime) -> str:
        if self._token is None or now >= self._token[0]:
            claims = {"iss": self._team_id, "iat": int(now.timestamp())}
            made = jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})
            self._token = (now + _APNS_TOKEN_LIFE, made)
        return self._token[1]


class Fcm:
    """Firebase Cloud Messaging (HTTP v1), by the key of a service account."""

    def __init__(self, url: str, account: Mapping[str, str], timeout_seconds: float, clock: Clock) -> None:
        self._client = httpx.AsyncClient(timeout=timeout_seconds, trust_env=False)
        self._url = f"{url}/v1/projects/{account['project_id']}/messages:send"
        self._account = account
        self._clock = clock
        self._token: tuple[datetime, str] | None = None
        self._asking = asyncio.Lock()

    async def push(self, token: str, note: Note) -> Pushed:
        """Bring it to a device."""
        message = {
            "token": token,
            "notification": {"title": note.title, "body": note.body},
            "data": dict(note.data),
            "android": {"ttl": f"{_LIFE_SECONDS}s", "collapse_key": note.message_id},
        }
        try:
            access = await self._access()
        except (httpx.HTTPError, httpx.InvalidURL, PyJWTError, ValueError, LookupError) as error:
            return Pushed(MessageState.WAITING, f"no access: {type(error).__name__}")
        try:
            headers = {"authorization": f"Bearer {access}"}
            answer = await self._client.post(self._url, json={"message": message}, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return _failed(error)
        if answer.status_code == 200:
            return Pushed(MessageState.SENT)
        told = _object(_body(answer).get("error"))
        details = [_object(each) for each in _list(told.get("details"))]
        code = next(
            (str(each["errorCode"]) for each in details if "errorCode" in each), str(told.get("status", ""))
        )
        fields = {
            str(_object(violation).get("field"))
            for each in details
            for violation in _list(each.get("fieldViolations"))
        }
        if code == "UNREGISTERED" or "message.token" in fields:
            return Pushed(MessageState.REFUSED, code, is_dead=True)
        if code == "SENDER_ID_MISMATCH":
            return Pushed(MessageState.REFUSED, code)
        if answer.status_code == 401:
            self._token = None
        return _answered(answer, code)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def _access(self) -> str:
        """What calls are shown. Raises what goes wrong."""
        async with self._asking:
            now = self._clock.now()
            if self._token is None or now >= self._token[0]:
                claims = {
                    "iss": self._account["client_email"],
                    "scope": _FCM_SCOPE,
                    "aud": self._account["token_uri"],
                    "iat": int(now.timestamp()),
                    "exp": int((now + _FCM_TOKEN_LIFE).timestamp()),
                }
                signed = jwt.encode(claims, self._account["private_key"], algorithm="RS256")
                asked = {"grant_type": _FCM_GRANT, "assertion": signed}
                answer = await self._client.post(self._account["token_uri"], data=asked)
                answer.raise_for_status()
                told = _body(answer)
                life = timedelta(seconds=int(told["expires_in"]))
                self._token = (now + max(life - _EARLY, life / 2), str(told["access_token"]))
            return self._token[1]


class Expo:
    """Expo's push service."""

    def __init__(self, url: str, access_token: str | None, timeout_seconds: float) -> None:
        headers = {} if access_token is None else {"authorization": f"Bearer {access_token}"}
        self._client = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=timeout_seconds, trust_env=False
        )

    async def push(self, token: str, note: Note) -> Pushed:
        """Bring it to a device."""
        message = {
            "to": token,
            "title": note.title,
            "body": note.body,
            "data": dict(note.data),
            "ttl": _LIFE_SECONDS,
        }
        try:
            answer = await self._client.post("/--/api/v2/push/send", json=[message])
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return _failed(error)
        if answer.status_code != 200:
            errors = _list(_body(answer).get("errors"))
            return _answered(answer, str(_object(errors[0]).get("code", "")) if errors else "")
        tickets = _list(_body(answer).get("data"))
        ticket = _object(tickets[0]) if tickets else {}
        if ticket.get("status") == "ok":
            return Pushed(MessageState.SENT, ticket_id=str(ticket.get("id", "")))
        reason = _expo_error(ticket)
        if reason == _EXPO_DEAD:
            return Pushed(MessageState.REFUSED, reason, is_dead=True)
        if reason in _EXPO_LATER:
            return Pushed(MessageState.WAITING, reason)
        return Pushed(MessageState.REFUSED, reason or "no ticket")

    async def receipts(self, ticket_ids: Sequence[str]) -> dict[str, Receipt] | None:
        """What is known by now of these, of `MOST_RECEIPTS` at most; None where it does not say."""
        try:
            answer = await self._client.post("/--/api/v2/push/getReceipts", json={"ids": list(ticket_ids)})
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None
        if answer.status_code != 200:
            return None
        found = {
            ticket_id: _object(receipt) for ticket_id, receipt in _object(_body(answer).get("data")).items()
        }
        return {
            ticket_id: Receipt()
            if receipt.get("status") == "ok"
            else Receipt(reason := _expo_error(receipt) or "no reason", is_dead=reason == _EXPO_DEAD)
            for ticket_id, receipt in found.items()
        }

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()


def _expo_error(told: dict[str, Any]) -> str:
    """What a ticket or a receipt says that went wrong."""
    return str(_object(told.get("details")).get("error", ""))


def _failed(error: Exception) -> Pushed:
    """There is no answer. Without a connection, or where we could not even ask, nothing has gone out."""
    is_sent = isinstance(error, httpx.TransportError) and not isinstance(error, _NOT_SENT)
    state = MessageState.UNKNOWN if is_sent else MessageState.WAITING
    return Pushed(state, f"could not be talked to: {type(error).__name__}")


def _answered(answer: httpx.Response, reason: str) -> Pushed:
    """The provider has said no."""
    detail = f"answered {answer.status_code} {reason}".rstrip()
    if answer.status_code in _LATER:
        return Pushed(MessageState.WAITING, detail)
    if answer.status_code >= 500:
        return Pushed(MessageState.UNKNOWN, detail)
    return Pushed(MessageState.REFUSED, detail)


def _body(answer: httpx.Response) -> dict[str, Any]:
    try:
        return _object(json.loads(answer.content))
    except ValueError:
        return {}


def _object(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []
