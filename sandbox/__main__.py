"""`python -m sandbox`: start it, say where it listens, serve until told to stop.

On start one JSON line goes to standard output: `{"url": "http://127.0.0.1:PORT", "pid": N}`.
SIGINT and SIGTERM end it within a second with exit code 0, whatever is under way.
"""

import argparse
import asyncio
import gc
import ipaddress
import os
import signal
import sys
from pathlib import Path

import orjson

from sandbox.app import Sandbox
from sandbox.config import DEFAULT_KEY, Config, Refused, check_key
from sandbox.limits import Limit
from sandbox.server import listen


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="A Braze to test with.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) picks a free port")
    parser.add_argument(
        "--api-key",
        action="append",
        default=[],
        metavar="KEY",
        help=f"an accepted key, may be repeated; default {DEFAULT_KEY}",
    )
    parser.add_argument(
        "--requests-per-second",
        type=int,
        metavar="N",
        help="limit of /users/track; 0 for none; default 3000 in 3 seconds",
    )
    parser.add_argument("--address-file", type=Path, help="where to write the start line as well")
    parser.add_argument(
        "--state-file", type=Path, help="keep custom attributes here from one run to the next"
    )
    parser.add_argument(
        "--allow-remote", action="store_true", help="listen on other than loopback addresses"
    )
    options = parser.parse_args(arguments)
    if not is_loopback(options.host) and not options.allow_remote:
        parser.error(
            f"{options.host} is not a loopback address and the control endpoints have no login; "
            "give --allow-remote if that is what you want"
        )
    if options.requests_per_second is not None and options.requests_per_second < 0:
        parser.error("--requests-per-second must not be negative")
    try:
        options.api_key = [check_key(key) for key in options.api_key] or [DEFAULT_KEY]
    except Refused as refused:
        parser.error(str(refused))
    return options


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it. A name other than localhost might be anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def build(options: argparse.Namespace) -> Sandbox:
    config = Config(keys=tuple(options.api_key))
    if options.requests_per_second is not None:
        config.rate_limit = Limit(options.requests_per_second or None, 1.0)
    sandbox = Sandbox(config)
    if options.state_file is not None and options.state_file.exists():
        scene = orjson.loads(options.state_file.read_bytes())
        for key, attributes in scene.items():
            sandbox.state.profiles.set_scene(key, attributes)
    return sandbox


def write_whole(path: Path, content: bytes) -> None:
    """Write so that a reader finds the old content or the new, never a part."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    draft.write_bytes(content)
    draft.replace(path)


async def serve(sandbox: Sandbox, options: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    server = await listen(sandbox, options.host, options.port)
    line = orjson.dumps({"url": server.url, "pid": os.getpid()}) + b"\n"
    if options.address_file is not None:
        write_whole(options.address_file, line)
    print(line.decode(), end="", flush=True)
    await stopping.wait()
    server.stop()
    if options.state_file is not None:
        profiles = sandbox.state.profiles
        kept = {key: profile.attributes() for key, profile in profiles.after(None, len(profiles))}
        write_whole(options.state_file, orjson.dumps(kept))


def main() -> int:
    options = read_arguments(sys.argv[1:])
    # The state holds no cycles, and searching millions of objects for some would stall replies.
    gc.set_threshold(100_000, 50, 1000)
    try:
        asyncio.run(serve(build(options), options))
    except OSError as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
