"""Segment's signature: its documented vector, and bodies that other libraries would write anew."""

import hashlib
import hmac

import pytest

from producer.http.signature import is_first_signed, is_signed, signature_of

VECTOR = (
    b'{"type":"track","userId":"u1","event":"Audience Entered","properties":{"vip":true}}',
    "c8d6fd8930318b58ed86b1a97c14d53b5196f6f7",
)
# As JavaScript writes them; Python would write each otherwise.
BODIES = [
    '{"userId":"Zoë","city":"München","emoji":"🙂"}'.encode(),
    b'{"total":1,"ratio":1.0,"big":1e21,"small":1e-7}',
    b'{"2":"b","10":"c","1":"a","name":"later"}',
    b'{"text":"<\\/script>\\u2028","quote":"\\""}',
    b'{ "spaces" : true }',
    b"",
]


class TestWhole:
    def test_vector(self) -> None:
        """Secret `s3cret`, the fact sheet's body."""
        body, signature = VECTOR
        assert signature_of("s3cret", body) == signature
        assert is_signed("s3cret", body, signature.encode())

    @pytest.mark.parametrize("body", BODIES)
    def test_raw_bytes_count(self, body: bytes) -> None:
        """Whatever the form of the JSON, its bytes are what was signed."""
        signature = hmac.new(b"s3cret", body, hashlib.sha1).hexdigest().encode()
        assert is_signed("s3cret", body, signature)
        assert is_signed("s3cret", body, b" " + signature.upper() + b" ")

    @pytest.mark.parametrize(
        "given", [b"", b"c8d6", b"\xff\xfe", b"0" * 40, VECTOR[1][:-1].encode()]
    )
    def test_others_are_refused(self, given: bytes) -> None:
        """Nothing, a part, bytes that are no hex, another's."""
        assert not is_signed("s3cret", VECTOR[0], given)

    def test_a_changed_byte_is_noticed(self) -> None:
        """A value turned round on the way."""
        body = VECTOR[0].replace(b"true", b"null")
        assert not is_signed("s3cret", body, VECTOR[1].encode())

    def test_another_secret_is_refused(self) -> None:
        """The secret is part of it."""
        assert not is_signed("s3cres", VECTOR[0], VECTOR[1].encode())


class TestFirst:
    @pytest.mark.parametrize("before", [b"[", b" [ ", b"\r\n\t["])
    @pytest.mark.parametrize("after", [b"]", b" , {}]", b",1,2]", b"]\n"])
    def test_the_first_message_is_found_as_it_came(self, before: bytes, after: bytes) -> None:
        """Spaces around it are not signed; inside they are."""
        body, signature = VECTOR
        assert is_first_signed("s3cret", before + body + after, signature.encode())

    @pytest.mark.parametrize("first", BODIES[:-1])
    def test_odd_forms_stay_as_they_came(self, first: bytes) -> None:
        """Non-ASCII, `1.0`, numeric names: the slice is the bytes, not a new writing."""
        signature = signature_of("s3cret", first).encode()
        assert is_first_signed("s3cret", b"[" + first + b',{"a":1}]', signature)

    @pytest.mark.parametrize("body", [b"", b"[", b"[]", b"{}", b"[}", b"\xff", b"[" * 100_000])
    def test_what_has_no_first_is_refused(self, body: bytes) -> None:
        """Broken or endless arrays are no error, only not signed."""
        assert not is_first_signed("s3cret", body, VECTOR[1].encode())
