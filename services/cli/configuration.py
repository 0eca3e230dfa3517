"""The declarative configuration file: YAML in, one ApplyConfiguration request out, or every mistake."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import yaml
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from laurel.orchestrator.v1 import orchestrator_service_pb2

from services.cli.yaml_messages import Mistake, NodeReader, Place, kind_of, place_of, snake_case, unknown
from shared.errors import FieldViolation

SECTIONS: Final = ("metrics", "streaks", "achievements", "points_systems", "leaderboards")

_START: Final = Place(1, 1)
_REQUEST: Final = orchestrator_service_pb2.ApplyConfigurationRequest.DESCRIPTOR


class ConfigurationMistakes(Exception):
    """The file cannot be applied. `mistakes` are in the order of the file."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes))
        super().__init__(f"{len(self.mistakes)} mistakes")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a file says. `places` has the place of each path: `streaks[2].metrics[0].metric`."""

    request: orchestrator_service_pb2.ApplyConfigurationRequest
    places: Mapping[str, Place]

    def locate(self, violations: Iterable[FieldViolation]) -> tuple[Mistake, ...]:
        """Violations that the server found, as mistakes in the file.

        A field that the file leaves out has the place of the definition that lacks it.
        """
        return tuple(
            sorted(Mistake(self._place(each.field), each.field, each.description) for each in violations)
        )

    def _place(self, path: str) -> Place:
        while path not in self.places:
            cut = max(path.rfind("."), path.rfind("["))
            if cut < 0:
                return _START
            path = path[:cut]
        return self.places[path]


def read_configuration(text: str | bytes) -> Configuration:
    """The configuration in this YAML text. Raises `ConfigurationMistakes`, which has all of them."""
    root = _compose(text)
    reader = NodeReader()
    content = _sections(root, reader)
    if reader.mistakes:
        raise ConfigurationMistakes(reader.mistakes)
    request = orchestrator_service_pb2.ApplyConfigurationRequest()
    try:
        json_format.ParseDict(content, request)
    except json_format.ParseError as error:
        raise ConfigurationMistakes([Mistake(_START, "", str(error))]) from error
    return Configuration(request, reader.places)


def _compose(text: str | bytes) -> yaml.MappingNode:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(mark.line + 1, mark.column + 1) if mark else _START
        raise ConfigurationMistakes(
            [Mistake(place, "", f"not YAML: {error.problem or error.context}")]
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationMistakes(
            [Mistake(_START, "", f"not YAML: {' '.join(str(error).split())}")]
        ) from error
    except RecursionError as error:
        raise ConfigurationMistakes([Mistake(_START, "", "nested too deeply")]) from error
    if root is None:
        raise ConfigurationMistakes([Mistake(_START, "", f"empty; wanted: {', '.join(SECTIONS)}")])
    if not isinstance(root, yaml.MappingNode):
        what = f"must be a mapping with {', '.join(SECTIONS)}, not {kind_of(root)}"
        raise ConfigurationMistakes([Mistake(place_of(root), "", what)])
    return root


def _sections(root: yaml.MappingNode, reader: NodeReader) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, node in reader.entries(root, ""):
        name = snake_case(key.value)
        if name not in SECTIONS:
            reader.report(key, key.value, unknown("section", name, list(SECTIONS)))
            continue
        result[name] = _definitions(node, name, reader)
    return result


def _definitions(node: yaml.Node, section: str, reader: NodeReader) -> list[dict[str, Any]]:
    """The definitions of one section; two with one key are a mistake."""
    reader.places[section] = place_of(node)
    if not isinstance(node, yaml.SequenceNode):
        reader.report(node, section, f"must be a list, not {kind_of(node)}")
        return []
    descriptor = cast(Descriptor, _REQUEST.fields_by_name[section].message_type)
    result = []
    first: dict[str, Place] = {}
    for index, item in enumerate(node.value):
        path = f"{section}[{index}]"
        definition = reader.message(item, descriptor, path)
        result.append(definition)
        key = definition.get("key")
        if not isinstance(key, str):
            continue
        place = reader.places[f"{path}.key"]
        if key in first:
            what = f"{key!r} is defined twice; first in line {first[key].line}"
            reader.mistakes.append(Mistake(place, f"{path}.key", what))
        first.setdefault(key, place)
    return result
