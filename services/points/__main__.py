"""`python -m services.points serve | migrate`."""

from services.points.config import MIGRATIONS, NAME, Settings
from shared.entrypoint import run

if __name__ == "__main__":
    run(NAME, Settings, server="services.points.server", migrations=MIGRATIONS)
