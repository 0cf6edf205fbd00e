"""Segment's signature of a webhook: hex HMAC-SHA1 over what its JavaScript serialised.

Pure. Only bytes as they came are verified: what another library writes again differs in spaces,
in characters beyond ASCII, in `1.0` and in the order of some keys.
"""

import hashlib
import hmac

from producer.json_text import BrokenJson, first_element


def signature_of(secret: str, body: bytes) -> str:
    """What Segment sends as X-Signature with this body."""
    return hmac.new(secret.encode(), body, hashlib.sha1).hexdigest()


def is_signed(secret: str, body: bytes, given: bytes) -> bool:
    """True if the signature covers the whole body. In constant time."""
    return hmac.compare_digest(signature_of(secret, body).encode(), given.strip().lower())


def is_first_signed(secret: str, body: bytes, given: bytes) -> bool:
    """True if it covers the first message of an array, which is all that Segment signs of one.

    The others may come from anybody. In constant time for bodies of one length.
    """
    try:
        first = first_element(body)
    except BrokenJson:
        return False
    return is_signed(secret, first, given)
