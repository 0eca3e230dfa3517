"""`python -m services.orchestrator serve | migrate`."""

from services.orchestrator.config import Settings
from services.orchestrator.server import MIGRATIONS, NAME, serve
from shared.entrypoint import run

if __name__ == "__main__":
    run(NAME, Settings, serve=serve, migrations=MIGRATIONS)
