"""`make clients`: the guides' programs, generated, built and run. Each needs the tools of its language and packages
from their registries, so `make test` does not collect this.
"""

import shutil

import pytest

from deploy.generate import ROOT
from shared.errors import Unavailable
from shared.rpc.server import running
from tests.clients.programs import OUTPUT, run
from tests.fixtures.echo import settings
from tests.fixtures.ingest import Ingest, ingest_server

TOOLS = {"go": ("go", "buf"), "java": ("java", "mvn"), "typescript": ("node", "npm", "npx")}
BUILDS = {
    "go": ["buf generate", "go build -o build/example ./example"],
    "java": ["mvn -q -B clean compile"],
    "typescript": ["npm ci --ignore-scripts", "npx buf generate", "npx tsc"],
}
PROGRAMS = {
    "go": "build/example {target}",
    "java": "mvn -q -B exec:java -Dexec.args={target}",
    "typescript": "node build/example.js {target}",
}


@pytest.mark.timeout(1_200)  # the first build downloads what it needs
@pytest.mark.parametrize("language", TOOLS)
async def test_the_guides_program_sends_an_event_again_with_its_key_and_prints_what_it_changed(
    language: str,
) -> None:
    missing = [tool for tool in TOOLS[language] if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not on the path: {', '.join(missing)}")
    directory = ROOT / "clients" / language
    for command in BUILDS[language]:
        await run(command.split(), directory)
    ingest = Ingest()
    ingest.failures.append(Unavailable("restarting", reason="DEPENDENCY_UNAVAILABLE"))

    async with running(ingest_server(ingest), settings()) as server:
        printed = await run(PROGRAMS[language].format(target=f"127.0.0.1:{server.port}").split(), directory)

    assert printed.replace("\x1b[0m", "") == OUTPUT  # Maven resets colours that it did not set
    first, retried, again = (request.idempotency_key for request in ingest.received[:3])
    assert first == retried == again != ""
