"""The declarative configuration file: YAML in, one ApplyConfiguration request out, or every mistake; and back."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import yaml
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from laurel.notification.v1 import notification_service_pb2
from laurel.orchestrator.v1 import definition_pb2, orchestrator_service_pb2

from services.cli.kinds import OWNED, TOLD
from services.cli.yaml_messages import Mistake, NodeReader, Place, kind_of, place_of, snake_case, unknown
from services.cli.yaml_text import yaml_text
from shared import definitions
from shared.definitions import KINDS, Name, Reference, dangling, list_of
from shared.errors import FieldViolation, Violations

SECTIONS: Final = (*(list_of(kind) for kind in KINDS), *TOLD)

_START: Final = Place(1, 1)
_REQUEST: Final = orchestrator_service_pb2.ApplyConfigurationRequest.DESCRIPTOR
_TELLING: Final = notification_service_pb2.ApplyConfigurationRequest.DESCRIPTOR


class ConfigurationMistakes(Exception):
    """The file cannot be applied. `mistakes` are in the order of the file."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes))
        super().__init__(f"{len(self.mistakes)} mistakes")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a file says. `places` has the place of each path: `streaks[2].metrics[0].metric`."""

    request: orchestrator_service_pb2.ApplyConfigurationRequest
    telling: notification_service_pb2.ApplyConfigurationRequest
    """What is told outside: of the notification service."""
    sections: frozenset[str]
    """Those that the file has."""
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
    telling = notification_service_pb2.ApplyConfigurationRequest()
    try:
        json_format.ParseDict({name: content[name] for name in content if name not in TOLD}, request)
        json_format.ParseDict({name: content[name] for name in content if name in TOLD}, telling)
    except json_format.ParseError as error:
        raise ConfigurationMistakes([Mistake(_START, "", str(error))]) from error
    return Configuration(request, telling, frozenset(content), reader.places)


def check_configuration(configuration: Configuration, *, partial: bool) -> tuple[Mistake, ...]:
    """Everything that is wrong with a configuration, as far as it can be known without a system.

    `partial`: it may mention definitions that it does not hold.
    """
    violations = Violations()
    known: set[Name] = set()
    sound: dict[str, dict[str, tuple[str, Any]]] = {}
    references: list[tuple[str, Reference]] = []
    for path, name, message in _named(configuration.request):
        wrong = Violations()
        OWNED[name.kind].check(message, path, wrong)
        violations.extend(wrong)
        known.add(name)
        if not len(wrong):
            references += [(path, reference) for reference in OWNED[name.kind].references(message)]
            sound.setdefault(name.kind, {})[name.key] = (path, message)
    for kind, messages in sound.items():
        OWNED[kind].check_all(messages, violations)
    for section, check in TOLD.items():
        for index, message in enumerate(getattr(configuration.telling, section)):
            check(message, f"{section}[{index}]", violations)
    if not partial:
        for path, name in dangling(references, known):
            violations.add(path, f"there is no {name} in this file")
    return configuration.locate(violations)


def configuration_text(
    found: Iterable[definition_pb2.Definition],
    telling: notification_service_pb2.ApplyConfigurationRequest | None = None,
) -> str:
    """A file with these definitions and with what is told outside, which `read_configuration` takes back."""
    sections: dict[str, list[Any]] = {section: [] for section in SECTIONS}
    for section in TOLD if telling is not None else ():
        sections[section] = list(getattr(telling, section))
    for definition in found:
        sections[list_of(definitions.name_of(definition).kind)].append(definitions.message_of(definition))
    return yaml_text({name: messages for name, messages in sections.items() if messages} or {SECTIONS[0]: []})


def _named(
    request: orchestrator_service_pb2.ApplyConfigurationRequest,
) -> Iterator[tuple[str, Name, Any]]:
    """Every definition with its path and name."""
    for kind in KINDS:
        for index, message in enumerate(getattr(request, list_of(kind))):
            yield f"{list_of(kind)}[{index}]", Name(kind, message.key), message


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
    fields = (_TELLING if section in TOLD else _REQUEST).fields_by_name
    descriptor = cast(Descriptor, fields[section].message_type)
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
