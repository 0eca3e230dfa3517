"""docker-compose.yml: everything it names exists, and no container may more than it needs. It is not run here."""

from typing import Any

import pytest
import yaml

from deploy.generate import ROOT
from deploy.local.databases import SERVICES

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CONTAINERS: dict[str, dict[str, Any]] = COMPOSE["services"]


def can(container: dict[str, Any], condition: str) -> bool:
    """Whether a container can ever be as others wait for it to be."""
    if condition == "service_completed_successfully":
        return bool(container["command"][-1] == "migrate")
    return "healthcheck" in container


def test_every_service_is_there_and_migrated_first() -> None:
    for service in SERVICES:
        assert CONTAINERS[service]["command"] == [f"services.{service}", "serve"]
        assert CONTAINERS[f"migrate-{service}"]["command"] == [f"services.{service}", "migrate"]
        assert CONTAINERS[service]["depends_on"][f"migrate-{service}"] == {
            "condition": "service_completed_successfully"
        }


def test_no_service_knows_what_the_owner_of_its_tables_is_known_by() -> None:
    for service in SERVICES:
        assert "LAUREL_MIGRATION_DSN" in CONTAINERS[f"migrate-{service}"]["environment"]
        assert "MIGRATION" not in str(CONTAINERS[service])


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_a_container_waits_for_can_come_true(name: str) -> None:
    for other, wanted in CONTAINERS[name].get("depends_on", {}).items():
        assert can(CONTAINERS[other], wanted["condition"]), other


@pytest.mark.parametrize("service", SERVICES)
def test_others_find_a_service_where_it_listens_and_its_health_is_asked_there(service: str) -> None:
    container = CONTAINERS[service]
    port = container["environment"]["LAUREL_LISTEN"].rpartition(":")[2]
    targets = {
        each["environment"][f"LAUREL_{service.upper()}_TARGET"]
        for each in CONTAINERS.values()
        if f"LAUREL_{service.upper()}_TARGET" in each.get("environment", {})
    }
    assert targets == {f"{service}:{port}"}
    assert container["healthcheck"]["test"][-1] == f"127.0.0.1:{port}"
    # Nothing is encrypted: this machine alone may reach it.
    assert container["ports"] == [f"127.0.0.1:{port}:{port}"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_writes_nowhere_has_no_capability_and_a_limit_of_memory(service: str) -> None:
    container = CONTAINERS[service]
    assert container["read_only"]
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert container["mem_limit"]


def test_what_is_mounted_from_here_is_here() -> None:
    for container in CONTAINERS.values():
        for volume in container.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (ROOT / source).exists(), volume


def test_no_secret_has_a_default() -> None:
    for name in ("LAUREL_PASSWORD", "LAUREL_MIGRATION_PASSWORD", "LAUREL_SERVICE_TOKEN"):
        assert f"${{{name}:-" not in (ROOT / "docker-compose.yml").read_text()
