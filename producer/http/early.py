"""Answers to what never became a request: too many connections, or no HTTP at all.

Written as a whole, with the headers that every answer has, counted, and with a line in the log.
"""

import secrets
from http import HTTPStatus

from producer.http.access_log import log_request
from producer.http.door import headers_of
from producer.http.metrics import Row
from producer.http.replies import Declined


def whole_answer(declined: Declined, row: Row) -> bytes:
    """The bytes to write; the connection is closed after them."""
    request = secrets.token_hex(8)
    reply = declined.reply()
    status = HTTPStatus(reply.status)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in headers_of(reply, request)]
    row.count("requests_total", route="other", status=str(reply.status))
    log_request(request, "", "other", reply.status, 0.0, {"code": declined.code})
    return b"\r\n".join([*lines, b"", reply.body])
