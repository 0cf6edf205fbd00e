"""`python -m producer`: the HTTP producer. Settings are environment variables: docs/settings.md.

Exit codes: 0 stopped as asked, 1 no server was ever started here, 2 a wrong option, 78 a setting
is wrong: to start it again changes nothing.
"""

import argparse
import json
import sys

from producer.http.openapi import document
from producer.http.serve import serve
from worker.contract import CANNOT_START_CODE
from worker.settings import NothingRunning, Settings, WrongSettings


def main(arguments: list[str] | None = None) -> int:
    """Serve, or print the OpenAPI document. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m producer",
        description="Takes what Segment's libraries and webhooks send. Its settings are "
        "environment variables: docs/settings.md, section `The HTTP producer`.",
    )
    parser.add_argument(
        "--openapi", action="store_true", help="print the OpenAPI document, and end"
    )
    if parser.parse_args(arguments).openapi:
        sys.stdout.write(json.dumps(document(), indent=2) + "\n")
        return 0
    try:
        return serve(Settings.load())
    except WrongSettings as error:
        sys.stderr.write(f"{error}\n")
        return CANNOT_START_CODE
    except NothingRunning as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
