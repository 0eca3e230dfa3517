"""E-mail by SMTP. What certainly did not go out can be tried again; what may have gone out is not."""

from email import policy
from email.message import EmailMessage
from email.utils import formatdate, parseaddr
from typing import Final
from urllib.parse import unquote, urlsplit

import aiosmtplib

from services.notification.carriers import Carried, Letter
from services.notification.domain.contacts import Contact
from services.notification.domain.messages import MessageState

_TEMPORARY: Final = range(400, 500)
_POLICY: Final = policy.SMTP.clone(max_line_length=998)
"""A line as long as RFC 5322 allows: a link that is folded is none, and by default it would be encoded as words."""
_DEFAULT_PORTS: Final = {"smtp": 587, "smtps": 465}


class Mailer:
    """Sends through one server, by a connection for each message."""

    def __init__(self, url: str, sender: str, timeout_seconds: float) -> None:
        """`url` is smtp://USER:PASSWORD@HOST:PORT or smtps://..."""
        parts = urlsplit(url)
        self._host = parts.hostname or "localhost"
        self._port = parts.port or _DEFAULT_PORTS[parts.scheme]
        self._tls = parts.scheme == "smtps"
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None
        self._sender = sender
        self._address = parseaddr(sender)[1]
        self._domain = self._address.rpartition("@")[2] or "localhost"
        self._timeout_seconds = timeout_seconds

    async def carry(self, contact: Contact, letter: Letter) -> Carried:
        """Send an e-mail."""
        client = aiosmtplib.SMTP(
            hostname=self._host, port=self._port, use_tls=self._tls, timeout=self._timeout_seconds
        )
        try:
            await client.connect()
            if self._user is not None:
                await client.login(self._user, self._password or "")
        except (aiosmtplib.SMTPException, OSError) as error:
            client.close()
            return Carried(MessageState.WAITING, _told(error))
        try:
            await client.sendmail(self._address, contact.email, self._email(contact, letter).as_bytes())
        except aiosmtplib.SMTPRecipientsRefused as error:
            return _answered(error.recipients[0])
        except aiosmtplib.SMTPResponseException as error:
            return _answered(error)
        except (aiosmtplib.SMTPException, OSError) as error:
            return Carried(MessageState.UNKNOWN, _told(error))
        finally:
            client.close()
        return Carried(MessageState.SENT)

    def _email(self, contact: Contact, letter: Letter) -> EmailMessage:
        email = EmailMessage(_POLICY)
        email["From"] = self._sender
        email["To"] = contact.email
        email["Subject"] = letter.written.subject
        email["Date"] = formatdate(letter.time.timestamp(), usegmt=True)
        email["Message-ID"] = f"<{letter.message_id}@{self._domain}>"
        email["Content-Language"] = letter.written.language
        # RFC 8058: the provider of the mailbox posts to it when the user presses its button.
        email["List-Unsubscribe"] = f"<{letter.unsubscribe_url}>"
        email["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        email.set_content(letter.written.text)
        if letter.written.html:
            email.add_alternative(letter.written.html, subtype="html")
        return email


def _answered(error: aiosmtplib.SMTPResponseException) -> Carried:
    """The server has said no. What it says may name the address, and is not kept."""
    state = MessageState.WAITING if error.code in _TEMPORARY else MessageState.REFUSED
    return Carried(state, f"the server answered {error.code}")


def _told(error: Exception) -> str:
    return f"the server could not be talked to: {type(error).__name__}"
