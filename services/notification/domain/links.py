"""Links by which a user unsubscribes: signed, so that nobody can make one for somebody else, and good for ever."""

import base64
import binascii
import hashlib
import hmac
from typing import Final

import msgspec

from services.notification.domain.contacts import Channel, MessageType

_SIGNATURE_BYTES: Final = 16
"""Of HMAC-SHA256, cut to 128 bits as RFC 2104 allows: a link stays short."""

_Claims = tuple[str, MessageType, Channel]


def link_token(user_id: str, type_: MessageType, channel: Channel, secret: bytes) -> str:
    """What stands in the link: the user gets no more messages of this type by this channel."""
    claims = msgspec.json.encode((user_id, type_, channel))
    return base64.urlsafe_b64encode(_signature(claims, secret) + claims).decode().rstrip("=")


def link_claims(token: str, secret: bytes) -> _Claims | None:
    """What a link says; None: it is not one of ours."""
    try:
        signed = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (ValueError, binascii.Error):
        return None
    signature, claims = signed[:_SIGNATURE_BYTES], signed[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(claims, secret)):
        return None
    found: _Claims = msgspec.json.decode(claims, type=_Claims)
    return found


def _signature(claims: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, claims, hashlib.sha256)[:_SIGNATURE_BYTES]
