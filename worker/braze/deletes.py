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


class Deletes:
    """Its client posts to DELETE_PATH."""

    def __init__(self, client: BrazeClient) -> None:
        self._client = client

    def delete(self, user_ids: Sequence[str], *, total: timedelta | None = None) -> Reply:
        """Ask for up to 50 users. Raises UnusableKey; never for anything the network does."""
        return self._client.post(orjson.dumps({"external_ids": list(user_ids)}), total=total)

    def probe(self) -> Reply:
        """Name nobody: nothing is deleted, and the answer shows what the key may do."""
        return self.delete(())

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()
