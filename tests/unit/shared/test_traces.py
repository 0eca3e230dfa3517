"""What stored messages say of a user, and what is left of it (RULES 2.7)."""

from laurel.common.v1 import configuration_pb2
from laurel.ledger.v1 import entry_pb2
from laurel.participant.v1 import participant_service_pb2 as pb
from laurel.points.v1 import points_pb2

from shared.traces import concerns, names, renamed


def test_a_pseudonym_takes_the_place_of_the_user_everywhere_in_a_message() -> None:
    entry = entry_pb2.Entry(user=entry_pb2.UserSnapshot(user_id="bob"))
    entry.other_users.add(user_id="ada", name="Ada", attributes={"mail": "ada@example.com"})
    assert renamed(entry, "ada", "erased-1")
    assert entry.other_users[0] == entry_pb2.UserSnapshot(user_id="erased-1")
    assert entry.user.user_id == "bob"


def test_what_has_the_name_of_a_user_is_no_user() -> None:
    system = points_pb2.PointsSystem(key="ada", name="ada")
    kept = points_pb2.PointsSystem(key="ada", name="ada")
    assert not concerns(system, "ada")
    assert not renamed(system, "ada", "erased-1")
    assert system == kept


def test_a_change_by_hand_names_users_by_its_path_and_as_json() -> None:
    change = configuration_pb2.FieldChange(path="boosts[b].user_id", new_value='"ada"')
    other = configuration_pb2.FieldChange(path="name", new_value='"ada"')
    assert concerns(change, "ada")
    assert renamed(change, "ada", "erased-1")
    assert change.new_value == '"erased-1"'
    assert not concerns(other, "ada")


def test_a_search_finds_an_id_as_a_word_and_no_part_of_another() -> None:
    assert names("no such user: ada", "ada")
    assert not names("no such user: ada-2", "ada")
    assert not names("17", "1")
    assert names('{"ada": [1, 2]}', "ada")
    assert names(["bob", "ada"], "ada")
    assert names(pb.Change(user_id="ada").SerializeToString(), "ada", pb.Change)
    assert not names(pb.Change(user_id="ada-2").SerializeToString(), "ada", pb.Change)
    assert not names(pb.Change(user_id="ada-2").SerializeToString(), "ada")
