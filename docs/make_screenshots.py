"""Makes docs/images/flower.png from the running demo: `python docs/make_screenshots.py`.

Needs Chromium: on Debian and Ubuntu `apt-get install chromium`. Everything runs in a folder of
its own on loopback, and ends with this script.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
SIZE = (1240, 860)
# So many users change at the end, so that the page shows more than idle ticks.
USERS = 1_000
# Without the worker's: it names this machine.
COLUMNS = "name,state,args,result,received,runtime"
CHROMIUM = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--force-device-scale-factor=1",
)  # fmt: skip


def main() -> None:
    """Play the demo, let Flower watch, take the picture."""
    chromium = find_chromium()
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        environment = {**os.environ, "PERSONA_SYNC_DATA_DIR": str(folder)}
        demo = running.enter_context(
            process(command("persona-sync", "demo", "--stay"), environment, folder / "demo.log")
        )
        data = folder / "demo"
        until(lambda: "Ctrl-C here ends it all" in read(folder / "demo.log"), demo)
        environment |= {
            "PERSONA_SYNC_DATA_DIR": str(data),
            "PERSONA_SYNC_AUDIENCES": str(data / "audiences.yaml"),
            "FLOWER_LOGIN_FILE": str(folder / "login"),
        }
        login = f"demo:{secrets.token_hex(8)}"
        (folder / "login").write_text(login)
        port = free_port()
        app = command("celery", "--app=worker.celery_app", "flower")
        config = f"--conf={ROOT / 'deploy' / 'flower_config.py'}"
        flower = running.enter_context(
            process(
                [
                    *app,
                    config,
                    f"--tasks-columns={COLUMNS}",
                    "--address=127.0.0.1",
                    f"--port={port}",
                ],
                environment,
                folder / "flower.log",
            )
        )
        until(lambda: tasks(port, login), flower)
        take_in(folder, environment)
        until(lambda: has_delivered(port, login), flower)
        url = f"http://{login}@127.0.0.1:{port}/tasks"
        take_picture(chromium, url, folder / "profile", IMAGES / "flower.png")


def find_chromium() -> str:
    """Its command; leaves with what to install if there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    sys.exit("Chromium is missing. On Debian and Ubuntu: apt-get install chromium")


def command(name: str, *arguments: str) -> list[str]:
    """A command of the Python that runs this."""
    return [str(Path(sys.executable).parent / name), *arguments]


def take_in(folder: Path, environment: dict[str, str]) -> None:
    """Import changes of users whom nobody knows, and wait until they are delivered."""
    personas = {"computation_class": "audience", "computation_key": "vip"}
    lines = (
        json.dumps(
            {
                "type": "identify",
                "userId": f"screenshot-{number}",
                "context": {"personas": personas},
                "traits": {"vip": True},
            }
        )
        for number in range(USERS)
    )
    (folder / "more.ndjson").write_text("\n".join(lines))
    importing = command("persona-sync", "import", str(folder / "more.ndjson"), "--json")
    subprocess.run(importing, env=environment, check=True, stdout=subprocess.DEVNULL)


def has_delivered(port: int, login: str) -> bool:
    """Has Flower heard of the flushes that the import led to?"""
    done = [task for task in tasks(port, login).values() if task["state"] == "SUCCESS"]
    flushes = [task for task in done if task["name"] == "persona_sync.flush_realtime"]
    return any("delivered" in task["result"] for task in flushes)


def tasks(port: int, login: str) -> dict[str, Any]:
    """What Flower's API says; empty while it does not answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/tasks?limit=500")
    request.add_header("Authorization", f"Basic {b64encode(login.encode()).decode()}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as reply:
            found: dict[str, Any] = json.load(reply)
    except OSError:
        return {}
    return found


def take_picture(chromium: str, url: str, profile: Path, image: Path) -> None:
    """One page, once its table is filled."""
    image.parent.mkdir(parents=True, exist_ok=True)
    options = [
        *CHROMIUM,
        f"--user-data-dir={profile}",
        f"--window-size={SIZE[0]},{SIZE[1]}",
        "--virtual-time-budget=4000",
        f"--screenshot={image}",
    ]
    subprocess.run([chromium, *options, url], check=True, capture_output=True, timeout=120)
    sys.stdout.write(f"{image.relative_to(ROOT)}  {image.stat().st_size / 1000:.0f} kB\n")


@contextmanager
def process(
    line: list[str], environment: dict[str, str], log: Path
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process for as long as the block lasts; its output goes to the log."""
    with log.open("wb") as out:
        running = subprocess.Popen(
            line, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield running
        finally:
            running.send_signal(signal.SIGINT)
            try:
                running.wait(40)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def until(holds: Callable[[], Any], needed: "subprocess.Popen[bytes]") -> None:
    """Ask until the answer is true; leave if it takes too long, or the process has ended."""
    pause, deadline = threading.Event(), time.monotonic() + 120
    while not holds():
        if needed.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{needed.args!r} did not come to the point where a picture can be taken.")
        pause.wait(0.05)


def read(file: Path) -> str:
    return file.read_text(errors="replace")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
