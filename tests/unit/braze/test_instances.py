"""Where Braze answers: names, URLs, and what is refused with a hint."""

import pytest

from worker.braze.instances import REST_HOSTS, UnknownInstance, rest_url


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("US-01", "https://rest.iad-01.braze.com"),
        ("us-08", "https://rest.iad-08.braze.com"),
        ("US-10", "https://rest.us-10.braze.com"),
        (" eu-02 ", "https://rest.fra-02.braze.eu"),
        ("AU-01", "https://rest.au-01.braze.com"),
        ("KR-01", "https://rest.kr-01.braze.com"),
        ("https://rest.iad-01.braze.com", "https://rest.iad-01.braze.com"),
        ("https://REST.fra-03.braze.eu/", "https://rest.fra-03.braze.eu"),
        ("https://braze.example.org:8443/", "https://braze.example.org:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("http://sandbox:8080", "http://sandbox:8080"),
    ],
)
def test_a_name_or_a_url_becomes_the_base(endpoint, url):
    """The base has no slash at its end; names do not mind their case."""
    assert rest_url(endpoint) == url


@pytest.mark.parametrize("endpoint", ["US-09", "US-1", "rest.iad-01.braze.com", "", "mars"])
def test_an_unknown_name_is_answered_with_the_list(endpoint):
    """All names are in the message, and that a URL may be given."""
    with pytest.raises(UnknownInstance) as raised:
        rest_url(endpoint)
    assert all(name in str(raised.value) for name in REST_HOSTS)
    assert "URL" in str(raised.value)
    assert "US-09" not in REST_HOSTS


@pytest.mark.parametrize("host", ["rest.iad-01.braze.com", "rest.fra-03.braze.eu:8443"])
def test_a_url_without_its_scheme_is_asked_about(host):
    """The URL that was meant is in the message, ready to be used."""
    with pytest.raises(UnknownInstance, match=f"Did you mean https://{host} ?"):
        rest_url(host)
    assert rest_url(f"https://{host}") == f"https://{host}"


@pytest.mark.parametrize(
    "text", ["mars", "1.2 3", "a.b/users/track", "a.b:notaport", "sdk.x.braze.com"]
)
def test_nothing_is_suggested_that_would_be_refused(text):
    """What would not become a usable URL with a scheme is no hint."""
    with pytest.raises(UnknownInstance) as raised:
        rest_url(text)
    assert "Did you mean" not in str(raised.value)


@pytest.mark.parametrize(
    ("endpoint", "hint"),
    [
        ("http://rest.iad-01.braze.com", "https"),
        ("http://127.0.0.1.example.org", "https"),
        ("http://134744072", "https"),
        ("ftp://rest.iad-01.braze.com", "https"),
        ("https://rest.iad-01.braze.com/users/track", "path"),
        ("https://rest.iad-01.braze.com/?x", "query"),
        ("https://rest.iad-01.braze.com#x", "fragment"),
        ("https://rest.iad-01.braze.com?", "query"),
        ("https://sdk.iad-01.braze.com", "rest."),
        ("https://sdk.fra-01.braze.eu", "rest."),
        ("https://", "host"),
        ("https://a b.example.org", "host"),
        ("https://host:notaport", "read"),
        ("https://[::1", "read"),
    ],
)
def test_an_unusable_url_says_why(endpoint, hint):
    """Each refusal names what would have been right."""
    with pytest.raises(UnknownInstance, match=hint):
        rest_url(endpoint)


def test_credentials_in_a_url_are_not_repeated():
    """The message must not show what should not have been there."""
    with pytest.raises(UnknownInstance) as raised:
        rest_url("https://ann:hunter2@rest.iad-01.braze.com")
    assert "credentials" in str(raised.value)
    assert "hunter2" not in str(raised.value)
