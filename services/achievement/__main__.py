"""`python -m services.achievement serve | migrate`."""

from services.achievement.config import Settings
from services.achievement.server import MIGRATIONS, NAME, serve
from shared.entrypoint import run

if __name__ == "__main__":
    run(NAME, Settings, serve=serve, migrations=MIGRATIONS)
