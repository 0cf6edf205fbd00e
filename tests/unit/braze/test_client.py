"""One request, sent once: what is sent, what is kept, and what is never done."""

import threading
from datetime import timedelta

import pytest

from worker.braze.client import UnusableKey


class TestRequest:
    """What Braze gets."""

    def test_it_is_one_post_to_users_track(self, serve, connect_to, keep_answering):
        """Path, key, type and body are as documented, and nothing is chunked or compressed."""
        server = serve(keep_answering())
        connect_to(server.url).track(b'{"attributes":[]}')
        (request,) = server.requests
        assert request.line == "POST /users/track HTTP/1.1"
        assert request.body == b'{"attributes":[]}'
        assert request.headers["authorization"] == "Bearer key-1"
        assert request.headers["content-type"] == "application/json"
        assert request.headers["accept-encoding"] == "identity"
        assert request.headers["user-agent"].startswith("persona-sync/")
        assert request.headers["host"] == f"127.0.0.1:{server.port}"
        assert "transfer-encoding" not in request.headers

    def test_the_reply_comes_back_whole(self, serve, connect_to, keep_answering):
        """Status, lower-case headers, body and a time are in the reply."""
        server = serve(
            keep_answering(status=429, body=b"later", headers="X-RateLimit-Reset: 7\r\n")
        )
        reply = connect_to(server.url).track(b"{}")
        assert (reply.status, reply.trouble, reply.body) == (429, None, b"later")
        assert reply.headers["x-ratelimit-reset"] == "7"
        assert 0 < reply.seconds < 5

    def test_the_probe_is_an_empty_array(self, serve, connect_to, keep_answering):
        """The probe can change nothing."""
        server = serve(keep_answering(status=400))
        assert connect_to(server.url).probe().status == 400
        assert server.requests[0].body == b'{"attributes":[]}'

    def test_a_key_that_changes_counts_at_once(self, serve, connect_to, keep_answering):
        """The key is asked before every request."""
        keys = iter(["old", "new"])
        server = serve(keep_answering())
        client = connect_to(server.url, api_key=lambda: next(keys))
        client.track(b"{}")
        client.track(b"{}")
        sent = [request.headers["authorization"] for request in server.requests]
        assert sent == ["Bearer old", "Bearer new"]

    @pytest.mark.parametrize("key", ["", "se\ncret", "secrét", "secret\r\nX: y"])
    def test_an_unusable_key_is_not_repeated(self, serve, connect_to, keep_answering, key):
        """A key that cannot be a header raises before anything is sent, without being shown."""
        server = serve(keep_answering())
        with pytest.raises(UnusableKey) as raised:
            connect_to(server.url, api_key=lambda: key).track(b"{}")
        assert "cret" not in str(raised.value)
        assert server.connections == 0

    def test_cookies_are_not_kept(self, serve, connect_to, keep_answering):
        """No request depends on an earlier reply."""
        server = serve(keep_answering(headers="Set-Cookie: a=b\r\n"))
        client = connect_to(server.url)
        client.track(b"{}")
        client.track(b"{}")
        assert "cookie" not in server.requests[1].headers

    def test_a_redirect_is_not_followed(self, serve, connect_to, keep_answering):
        """A redirect is a reply like any other: the key goes to no other address."""
        other = serve(keep_answering())
        server = serve(keep_answering(status=307, headers=f"Location: {other.url}/users/track\r\n"))
        assert connect_to(server.url).track(b"{}").status == 307
        assert (len(server.requests), len(other.requests)) == (1, 0)

    @pytest.mark.parametrize("status", [429, 500, 503, 413])
    def test_nothing_is_sent_twice(self, serve, connect_to, keep_answering, status):
        """Whatever the status, Retry-After or not, the server sees one request."""
        server = serve(keep_answering(status=status, headers="Retry-After: 0\r\n"))
        assert connect_to(server.url).track(b"{}").status == status
        assert len(server.requests) == 1


class TestConnections:
    """How connections are kept."""

    def test_they_are_used_again(self, serve, connect_to, keep_answering):
        """Requests one after the other need one connection, from whatever thread."""
        server = serve(keep_answering())
        client = connect_to(server.url)
        for _ in range(5):
            assert client.track(b"{}").status == 201
        for _ in range(5):
            thread = threading.Thread(target=client.track, args=(b"{}",))
            thread.start()
            thread.join()
        assert (server.connections, len(server.requests)) == (1, 10)

    def test_an_idle_one_is_not_used_again(self, serve, connect_to, keep_answering, clock):
        """After the idle time a new connection is made, before the server may close the old."""
        server = serve(keep_answering())
        client = connect_to(server.url, idle=4, clock=clock)
        client.track(b"{}")
        clock.shift += 3.9
        client.track(b"{}")
        assert server.connections == 1
        clock.shift += 4
        assert client.track(b"{}").status == 201
        assert server.connections == 2

    def test_all_idle_ones_are_closed(self, serve, connect_to, clock, until):
        """Connections left over from a busy time do not stay open beneath the one in use."""
        together = threading.Barrier(3)

        def script(peer):
            while peer.read() is not None:
                if len(server.requests) <= 3:
                    together.wait(5)
                peer.answer()

        server = serve(script)
        client = connect_to(server.url, idle=4, clock=clock)
        threads = [threading.Thread(target=client.track, args=(b"{}",)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert server.open == 3
        clock.shift += 3
        client.track(b"{}")
        clock.shift += 3
        client.track(b"{}")
        assert until(lambda: server.open == 1)
        assert server.connections == 3

    def test_one_that_the_server_closed_is_replaced(self, serve, connect_to, until):
        """A connection that is seen to be closed costs nothing."""

        def script(peer):
            peer.read()
            peer.answer()

        server = serve(script)
        client = connect_to(server.url)
        for _ in range(3):
            assert client.track(b"{}").status == 201
            assert until(lambda: server.open == 0)
        assert server.connections == 3

    def test_one_that_dies_under_a_request_is_ambiguous(self, serve, connect_to):
        """A kept connection that breaks after the request is a reset, and nothing is re-sent."""

        def script(peer):
            peer.read()
            peer.answer()
            peer.read()

        server = serve(script)
        client = connect_to(server.url)
        assert client.track(b"1").status == 201
        assert client.track(b"2").trouble == "reset"
        assert [request.body for request in server.requests] == [b"1", b"2"]
        assert client.track(b"3").status == 201

    def test_128_threads_share_a_client(self, serve, connect_to):
        """Every thread gets the reply to its own request."""

        def echo(peer):
            while (request := peer.read()) is not None:
                peer.answer(body=request.body)

        server = serve(echo)
        client = connect_to(server.url, total=30, connect=20)
        wrong: list[object] = []

        def work(number):
            for turn in range(5):
                body = b"%d-%d" % (number, turn)
                reply = client.track(body)
                if reply.body != body:
                    wrong.append(reply)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(128)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(server.requests) == 640
        assert server.connections <= 128

    def test_close_ends_the_watchdog_and_the_connections(
        self, serve, connect_to, keep_answering, until
    ):
        """After close no thread and no connection is left."""
        server = serve(keep_answering())
        client = connect_to(server.url)
        client.track(b"{}")
        before = [thread.name for thread in threading.enumerate()].count("braze-watchdog")
        client.close()
        after = [thread.name for thread in threading.enumerate()].count("braze-watchdog")
        assert (before, after) == (1, 0)
        assert until(lambda: server.open == 0)


class TestProxy:
    """The way there."""

    def test_the_environment_is_ignored(self, serve, connect_to, keep_answering, monkeypatch):
        """A proxy that the environment names is not used."""
        proxy, server = serve(keep_answering(status=502)), serve(keep_answering())
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert connect_to(server.url).track(b"{}").status == 201
        assert proxy.connections == 0

    def test_the_setting_is_used(self, serve, connect_to, keep_answering):
        """A configured proxy gets the request with the whole URL, and its own credentials."""
        proxy = serve(keep_answering())
        with_name = proxy.url.replace("//", "//ann:pass@")
        reply = connect_to("http://127.0.0.1:9", proxy=with_name).track(b"{}")
        assert reply.status == 201
        assert proxy.requests[0].line == "POST http://127.0.0.1:9/users/track HTTP/1.1"
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic YW5uOnBhc3M="

    @pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "127.0.0.1:3128", ""])
    def test_another_kind_is_refused_at_the_start(self, connect_to, proxy):
        """A proxy that cannot work is an error of the settings, not of every request."""
        with pytest.raises(ValueError, match="http://"):
            connect_to("http://127.0.0.1:9", proxy=proxy)


def test_a_total_for_one_request(serve, connect_to):
    """A request may have a shorter total than the client's."""
    server = serve(lambda peer: (peer.read(), peer.hang()))
    reply = connect_to(server.url, total=60).track(b"{}", total=timedelta(milliseconds=60))
    assert reply.trouble == "timeout"
    assert 0.05 < reply.seconds < 1
