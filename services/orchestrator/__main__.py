"""`python -m services.orchestrator serve | migrate`."""

from services.orchestrator.config import OrchestratorSettings
from services.orchestrator.server import MIGRATIONS, NAME, run
from shared.entrypoint import run as run_command

if __name__ == "__main__":
    run_command(NAME, OrchestratorSettings, serve=run, migrations=MIGRATIONS)
