"""Every kind of definition, from the service that owns it, so that a file can be checked without a system.

The one place where the command imports services, and of each only what is pure: docs/adr/0015.
"""

from collections.abc import Mapping
from typing import Any, Final

import services.achievement.definitions
import services.leaderboard.definitions
import services.notification.definitions
import services.orchestrator.definitions
import services.points.definitions
import services.streak.definitions
from shared.definitions import KINDS, DefinitionKind

OWNED: Final[Mapping[str, DefinitionKind[Any]]] = {
    kind.name: kind
    for kinds in (
        services.orchestrator.definitions.KINDS,
        services.streak.definitions.KINDS,
        services.achievement.definitions.KINDS,
        services.points.definitions.KINDS,
        services.leaderboard.definitions.KINDS,
    )
    for kind in kinds
    if kind.name in KINDS
}
"""By name."""
TOLD: Final = services.notification.definitions.CHECKS
"""What is wrong with what a file says of telling outside, by section."""
