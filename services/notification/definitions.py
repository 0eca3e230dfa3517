"""What is wrong with endpoints, streams and messages of a configuration file, as far as it is known without a system
(docs/adr/0015).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.notification import convert, message_convert
from shared.errors import Violations


def _check_endpoint(message: Any, path: str, violations: Violations) -> None:
    # Whether http may be is a setting.
    convert.check_endpoint(message, path, violations, allow_http=True)


CHECKS: Final[Mapping[str, Callable[[Any, str, Violations], None]]] = {
    "webhook_endpoints": _check_endpoint,
    "event_streams": convert.check_stream,
    "messages": message_convert.check_definition,
}
"""By the section of the file."""
