"""The compact state of a user's streak as JSON: its fields by name, instants and dates as ISO 8601.

The names are those of `domain.state.StreakState` and its parts. To rename, add or remove one is to change what is
stored, and needs a migration (see migrations/0004_states_by_name.sql).
"""

from typing import Final

from msgspec import json
from msgspec.structs import replace

from services.streak.domain.by_hand import NOTHING_BY_HAND, ByHand
from services.streak.domain.state import StreakState

_ENCODER: Final = json.Encoder()
_DECODER: Final = json.Decoder(StreakState)
_BY_HAND: Final = json.Decoder(ByHand)


def encode(state: StreakState) -> str:
    """The state as JSON. What was done by hand has a place of its own."""
    return _ENCODER.encode(replace(state, by_hand=NOTHING_BY_HAND)).decode()


def decode(text: str, by_hand: ByHand = NOTHING_BY_HAND) -> StreakState:
    """The state that `encode` wrote, with what was done by hand."""
    state = _DECODER.decode(text)
    return replace(state, by_hand=by_hand) if by_hand else state


def encode_by_hand(by_hand: ByHand) -> str:
    """What was done by hand, as JSON."""
    return _ENCODER.encode(by_hand).decode()


def decode_by_hand(text: str) -> ByHand:
    """What `encode_by_hand` wrote."""
    return _BY_HAND.decode(text)
