"""Sends a plan with Segment's Python library, as a user's program would.

python send.py HOST WRITE_KEY PLAN [gzip]
"""

import json
import sys
from datetime import datetime

from segment.analytics import Client


def main() -> int:
    host, write_key, plan, *options = sys.argv[1:]
    failures: list[str] = []
    client = Client(
        write_key,
        host=host,
        gzip="gzip" in options,
        max_queue_size=100_000,
        on_error=lambda error, items: failures.append(f"{type(error).__name__}: {len(items)}"),
    )
    with open(plan) as lines:
        for line in lines:
            said = json.loads(line)
            context = {
                "personas": {
                    "computation_class": said["class"], "computation_key": said["key"],
                    "computation_id": "aud_1", "namespace": "spa_1", "space_id": "spa_1",
                }
            }  # fmt: skip
            when = datetime.fromisoformat(said["at"])
            value = {said["key"]: said["value"]}
            if said["how"] == "identify":
                client.identify(said["user"], value, context=context, timestamp=when)
            elif said["how"] == "track":
                properties = {"audience_key": said["key"], **value}
                client.track(
                    said["user"], "Audience Entered", properties, context=context, timestamp=when
                )
            else:
                client.track(said["user"], "Something Else", {"a": 1}, timestamp=when)
    client.shutdown()
    print(json.dumps(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
