"""What becomes of old months of the ledger and of the sagas (docs/adr/0010)."""

from datetime import timedelta

from shared.postgres.condensing import Condense
from shared.postgres.partitions import Drop, Keeping


def retention(replay_window: timedelta | None) -> dict[str, Keeping]:
    """Sagas go, with the replies, once none of their month is open; entries stay, without what participants were told.

    None, for a window without end: everything stays. An entry that still has a saga is needed to go on with it.
    """
    if replay_window is None:
        return {"sagas": None, "entries": None}
    return {
        "sagas": Drop(replay_window, unless=("state IN (1, 2, 5)", "state = 7")),
        "entries": Condense(
            replay_window,
            emptied=("entry",),
            where="NOT EXISTS (SELECT FROM sagas WHERE sagas.entry_id = entries.entry_id)",
            follows="sagas",
        ),
    }
