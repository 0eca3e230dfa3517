"""`python -m services.notification serve | migrate`."""

from services.notification.config import Settings
from services.notification.server import MIGRATIONS, NAME, serve
from shared.entrypoint import run

if __name__ == "__main__":
    run(NAME, Settings, serve=serve, migrations=MIGRATIONS)
