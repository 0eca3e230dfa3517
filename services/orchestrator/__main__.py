"""`python -m services.orchestrator serve | migrate`."""

from services.orchestrator.config import MIGRATIONS, NAME, Settings
from shared.entrypoint import run

if __name__ == "__main__":
    run(NAME, Settings, server="services.orchestrator.server", migrations=MIGRATIONS)
