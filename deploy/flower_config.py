"""Flower's settings in docker-compose.yml. Its login comes from a file, so that neither `ps`
nor `docker inspect` shows it; without one it does not start, because it is for colleagues only."""

import os
import sys
from pathlib import Path

_login = Path(os.environ.get("FLOWER_LOGIN_FILE", "/run/secrets/flower_login"))
try:
    basic_auth = [_login.read_text().strip()]
except OSError as error:
    sys.exit(f"Flower needs a login, USER:PASSWORD, in {_login}: {error.strerror}")
if not all(basic_auth[0].partition(":")):
    sys.exit(f"{_login} does not hold a login: it is written USER:PASSWORD")

# People look; only the command `persona-sync` steers.
read_only = True
# Names, a partition's number, and counts: nothing of a person is in them.
tasks_columns = "name,state,args,result,received,runtime,worker"
max_tasks = 10_000
# Containers that are gone leave the list after this many seconds.
purge_offline_workers = 300
