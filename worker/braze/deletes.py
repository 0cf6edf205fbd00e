"""Asks Braze to delete profiles, by external id. Sent once, like everything the client sends.

An id that Braze does not know is none of its errors. Braze carries a deletion out within five
minutes (Braze docs: post_user_delete).
"""

from collections.abc import Sequence
from datetime import timedelta

import orjson

from worker.braze.client import BrazeClient
from worker.pipeline.reply import Reply

DELETE_PATH = "/users/delete"
IDS_MAX = 50  # in one request


def body(user_ids: Sequence[str]) -> bytes:
    """One request's body."""
    return orjson.dumps({"external_ids": list(user_ids)})


def pack(user_ids: Sequence[str], most_bytes: int) -> list[list[str]]:
    """The ids, in order, in groups whose bodies are no larger; an id that is too large on its own
    is a group on its own."""
    groups: list[list[str]] = []
    for user_id in user_ids:
        if groups and len(body([*groups[-1], user_id])) <= most_bytes:
            groups[-1].append(user_id)
        else:
            groups.append([user_id])
    return groups


class Deletes:
    """Its client posts to DELETE_PATH."""

    def __init__(self, client: BrazeClient) -> None:
        self._client = client

    def delete(self, user_ids: Sequence[str], *, total: timedelta | None = None) -> Reply:
        """Ask for up to 50 users. Raises UnusableKey; never for anything the network does."""
        return self._client.post(body(user_ids), total=total)

    def probe(self) -> Reply:
        """Name nobody: nothing is deleted, and the answer shows what the key may do."""
        return self.delete(())

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()
