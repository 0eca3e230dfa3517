"""The manifests of the chart, as they are rendered: right by the API's schemas, current, and true to the image."""

import re
import shutil
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.generate import ROOT
from deploy.kubernetes.__main__ import HERE, KUBERNETES_VERSION, RENDERED, render, sources_digest
from deploy.local.databases import SERVICES
from deploy.settings_page import settings_page


def manifests(name: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all((HERE / name).read_text()) if document]


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every pod of every rendered file, with what it belongs to."""
    for name in RENDERED:
        for manifest in manifests(name):
            if manifest["kind"] in ("Deployment", "Job"):
                yield f"{name}: {manifest['metadata']['name']}", manifest["spec"]["template"]["spec"]


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container["env"]}


@pytest.mark.parametrize("name", RENDERED)
def test_what_is_rendered_is_what_the_chart_says(name: str) -> None:
    """Else: `make chart`, with helm on the path."""
    assert (HERE / name).read_text().splitlines()[0].endswith(sources_digest(RENDERED[name]))


@pytest.mark.skipif(
    shutil.which("helm") is None, reason="helm is not installed: digests tell whether it is current"
)
@pytest.mark.parametrize("name", RENDERED)
def test_helm_renders_the_same(name: str) -> None:
    assert render(RENDERED[name]) == (HERE / name).read_text()


@pytest.mark.parametrize(("name", "version"), [*zip(RENDERED, ("1.27", KUBERNETES_VERSION), strict=True)])
def test_every_manifest_is_right_by_the_schemas_of_the_api(name: str, version: str) -> None:
    for manifest in manifests(name):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_every_service_is_deployed_and_migrated_first() -> None:
    for name in RENDERED:
        kinds = {(each["kind"], each["metadata"]["name"]) for each in manifests(name)}
        assert {("Deployment", f"laurel-{service}") for service in SERVICES} <= kinds
        assert {("Job", f"laurel-migrate-{service}") for service in SERVICES} <= kinds
        hooks = [
            each["metadata"]["annotations"]["helm.sh/hook"]
            for each in manifests(name)
            if each["kind"] == "Job"
        ]
        assert set(hooks) == {"pre-install,pre-upgrade"}


def test_no_pod_may_more_than_it_needs() -> None:
    for name, pod in pods():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"], name
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"], name
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name


def test_pods_run_as_the_user_of_the_image() -> None:
    user = re.search(r"^USER (\d+)", (ROOT / "deploy" / "Dockerfile").read_text(), re.M)
    assert user is not None
    assert {pod["securityContext"]["runAsUser"] for _, pod in pods()} == {int(user[1])}


def test_every_variable_of_a_pod_is_a_setting() -> None:
    existing = set(re.findall(r"LAUREL_\w+", settings_page()))
    named = {name for _, pod in pods() for container in pod["containers"] for name in variables(container)}
    assert named - existing == set()


def test_no_secret_stands_in_a_variable() -> None:
    secrets = {
        "LAUREL_POSTGRES_DSN",
        "LAUREL_MIGRATION_DSN",
        "LAUREL_REDIS_URL",
        "LAUREL_NATS_URL",
        "LAUREL_KAFKA_URL",
        "LAUREL_SERVICE_TOKEN",
        "LAUREL_SMTP_URL",
        "LAUREL_APNS_KEY",
        "LAUREL_FCM_ACCOUNT",
        "LAUREL_EXPO_ACCESS_TOKEN",
    }
    for name, pod in pods():
        for container in pod["containers"]:
            assert not secrets & variables(container).keys(), name


def test_services_are_found_by_the_names_that_they_are_given() -> None:
    for name in RENDERED:
        found = {
            f"{each['metadata']['name']}:{each['spec']['ports'][0]['port']}"
            for each in manifests(name)
            if each["kind"] == "Service"
        }
        wanted = {
            target
            for _, pod in pods()
            for variable, target in variables(pod["containers"][0]).items()
            if variable.endswith("_TARGET")
        }
        assert wanted
        assert wanted <= found
