"""Updates with a field mask."""

import pytest
from google.protobuf.api_pb2 import Api
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.source_context_pb2 import SourceContext
from google.protobuf.type_pb2 import Option

from shared.errors import InvalidArgument
from shared.masks import updated

CURRENT = Api(
    name="key",
    version="1",
    source_context=SourceContext(file_name="old"),
    options=[Option(name="a"), Option(name="b")],
    edition="out",
)


def mask(*paths: str) -> FieldMask:
    return FieldMask(paths=paths)


def test_only_the_fields_in_the_mask_change() -> None:
    result = updated(CURRENT, Api(version="2", edition="x"), mask("version"))
    assert result.version == "2"
    assert result.edition == "out"
    assert CURRENT.version == "1"


def test_a_masked_field_that_is_empty_is_cleared() -> None:
    result = updated(CURRENT, Api(), mask("version", "source_context", "options"))
    assert result == Api(name="key", edition="out")


def test_repeated_fields_and_messages_are_replaced_whole() -> None:
    result = updated(CURRENT, Api(options=[Option(name="c")]), mask("options"))
    assert [option.name for option in result.options] == ["c"]


def test_a_path_leads_into_a_message() -> None:
    update = Api(source_context=SourceContext(file_name="new"))
    assert updated(CURRENT, update, mask("source_context.file_name")).source_context.file_name == "new"


def test_without_a_mask_the_fields_that_are_set_change() -> None:
    result = updated(CURRENT, Api(name="key", version="2"), mask(), immutable=["name"])
    assert result.version == "2"
    assert len(result.options) == 2


def test_a_star_replaces_everything_that_may_change() -> None:
    update = Api(version="2", edition="forged")
    result = updated(CURRENT, update, mask("*"), immutable=["name"], output_only=["edition"])
    assert result == Api(name="key", version="2", edition="out")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nosuch",
        "version.x",
        "options.name",
        "source_context.",
        ".version",
        "sourceContext",
        "source_context.x",
    ],
)
def test_a_path_that_is_not_a_field_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        updated(CURRENT, Api(), mask("version", path))
    assert [violation.field for violation in refusal.value.violations] == ["update_mask"]


@pytest.mark.parametrize("paths", [["*"], ["name"]])
def test_a_field_that_must_not_change_stays_where_nothing_is_said_of_it(paths: list[str]) -> None:
    assert updated(CURRENT, Api(version="2"), mask(*paths), immutable=["name"]).name == "key"


def test_what_a_field_that_must_not_change_would_become_is_for_the_caller_to_refuse() -> None:
    assert updated(CURRENT, Api(name="other"), mask("name"), immutable=["name"]).name == "other"
