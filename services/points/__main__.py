"""`python -m services.points serve | migrate`."""

from services.points.config import Settings
from services.points.server import MIGRATIONS, NAME, serve
from shared.entrypoint import run

if __name__ == "__main__":
    run(NAME, Settings, serve=serve, migrations=MIGRATIONS)
