"""The compact state of a user's streak as JSON: its fields by name, instants and dates as ISO 8601.

The names are those of `domain.fold.StreakState` and its parts. To rename, add or remove one is to change what is
stored, and needs a migration (see migrations/0004_states_by_name.sql).
"""

from typing import Final

from msgspec import json

from services.streak.domain.fold import StreakState

_ENCODER: Final = json.Encoder()
_DECODER: Final = json.Decoder(StreakState)


def encode(state: StreakState) -> str:
    """The state as JSON."""
    return _ENCODER.encode(state).decode()


def decode(text: str) -> StreakState:
    """The state that `encode` wrote."""
    return _DECODER.decode(text)
