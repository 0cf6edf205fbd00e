"""A network and a server that misbehave: every request ends in time, and says how it ended."""

import socket
import threading

import pytest

from worker.pipeline.reply import Trouble

SOON = 0.12  # seconds: the total of requests that are made to run into it
MARGIN = 0.8  # a busy machine may be late, a missing watchdog is later


def _ends_at_the_total(reply):
    assert reply.trouble is Trouble.TIMEOUT
    assert reply.status is None
    assert SOON * 0.9 < reply.seconds < SOON + MARGIN


class TestTotal:
    """The total bounds the request, not one operation of its socket."""

    @pytest.mark.parametrize(
        "head",
        [
            pytest.param(b"HTTP/1.1 201 Created\r\nContent-Length: 5000\r\n\r\n", id="body"),
            pytest.param(b"HTTP/1.1 201 Created\r\n\r\n", id="body without a length"),
            pytest.param(
                b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n", id="chunk"
            ),
            pytest.param(
                b"HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 5000\r\n\r\n",
                id="closing",
            ),
            pytest.param(b"HTTP/1.1 201 Created\r\nX: ", id="header"),
            pytest.param(b"HTTP/1.1 201 ", id="status line"),
        ],
    )
    def test_a_dripping_reply_ends(self, serve, connect_to, head):
        """A byte every 20 ms keeps no request open, wherever in the reply it comes."""
        server = serve(lambda peer: (peer.read(), peer.drip(head)))
        _ends_at_the_total(connect_to(server.url, total=SOON).track(b"{}"))
        assert len(server.requests) == 1

    def test_silence_ends(self, serve, connect_to):
        """A server that never answers costs one total."""
        server = serve(lambda peer: (peer.read(), peer.hang()))
        _ends_at_the_total(connect_to(server.url, total=SOON).track(b"{}"))

    def test_a_server_that_does_not_read_ends(self, serve, connect_to):
        """Writing is bounded too: a body that nobody takes is ambiguous."""
        server = serve(lambda peer: peer.hang())
        _ends_at_the_total(connect_to(server.url, total=SOON).track(b"x" * 40_000_000))

    def test_the_broken_connection_is_not_used_again(self, serve, connect_to):
        """After a time-out the next request has a new connection, and no old reply."""

        def script(peer):
            peer.read()
            if peer.number == 1:
                peer.drip(b"HTTP/1.1 201 Created\r\nContent-Length: 5000\r\n\r\n")
            peer.answer(body=b"mine")

        server = serve(script)
        client = connect_to(server.url, total=SOON)
        _ends_at_the_total(client.track(b"{}"))
        assert client.track(b"{}").body == b"mine"

    def test_others_go_on(self, serve, connect_to):
        """Ending one request harms none of those beside it."""

        def script(peer):
            while (request := peer.read()) is not None:
                if request.body == b"slow":
                    peer.drip(b"HTTP/1.1 201 Created\r\nContent-Length: 5000\r\n\r\n")
                peer.answer()

        server = serve(script)
        client = connect_to(server.url, total=SOON)
        replies = []
        slow = [
            threading.Thread(target=lambda: replies.append(client.track(b"slow"))) for _ in range(8)
        ]
        for thread in slow:
            thread.start()
        while any(thread.is_alive() for thread in slow):
            assert client.track(b"quick").status == 201
        assert [reply.trouble for reply in replies] == [Trouble.TIMEOUT] * 8


class TestNothingSent:
    """NOT_CONNECTED is said only if no byte of the request was written."""

    def test_nobody_listens(self, connect_to):
        """A refused connect is surely not accepted."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        assert connect_to(f"http://127.0.0.1:{port}").track(b"{}").trouble is Trouble.NOT_CONNECTED

    def test_the_name_is_unknown(self, connect_to, monkeypatch):
        """So is a name without an address."""

        def unknown(*_, **__):
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        assert connect_to("http://braze.test").track(b"{}").trouble is Trouble.NOT_CONNECTED

    def test_the_connect_hangs(self, connect_to):
        """A connect that nobody answers ends at the connect's limit, not the total."""
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            address = full.getsockname()
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(address)
            reply = connect_to(f"http://127.0.0.1:{address[1]}", connect=SOON, total=20).track(b"")
            for filler in fillers:
                filler.close()
        assert reply.trouble is Trouble.NOT_CONNECTED
        assert reply.seconds < SOON + MARGIN

    def test_a_name_server_takes_too_long(
        self, serve, connect_to, keep_answering, clock, monkeypatch
    ):
        """If the total is over before the connection stands, nothing is sent any more."""
        server = serve(keep_answering())
        resolve = socket.getaddrinfo

        def slow(*args, **options):
            clock.shift += 30
            return resolve(*args, **options)

        monkeypatch.setattr(socket, "getaddrinfo", slow)
        reply = connect_to(server.url, clock=clock).track(b"{}")
        assert reply.trouble is Trouble.NOT_CONNECTED
        assert server.requests == []

    def test_no_time_at_all(self, serve, connect_to, keep_answering):
        """A total of nothing sends nothing."""
        server = serve(keep_answering())
        assert connect_to(server.url, total=0).track(b"{}").trouble is Trouble.NOT_CONNECTED
        assert server.requests == []

    def test_the_second_address_is_tried(self, serve, connect_to, keep_answering, monkeypatch):
        """A name with a dead first address still connects."""
        server = serve(keep_answering())
        alive = socket.getaddrinfo("127.0.0.1", server.port, type=socket.SOCK_STREAM)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        dead = socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: dead + alive)
        assert connect_to("http://braze.test").track(b"{}").status == 201


class TestBrokenReplies:
    """What came after sending is told apart, and never raised."""

    @pytest.mark.parametrize(
        ("said", "trouble"),
        [
            pytest.param(b"", Trouble.RESET, id="nothing"),
            pytest.param(b"HTTP/1.1 20", Trouble.UNREADABLE, id="half a status line"),
            pytest.param(
                b'HTTP/1.1 201 Created\r\nContent-Length: 50\r\n\r\n{"mess',
                Trouble.RESET,
                id="half a body",
            ),
            pytest.param(
                b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
                Trouble.RESET,
                id="half a chunk",
            ),
            pytest.param(b"SSH-2.0-OpenSSH_9\r\n", Trouble.UNREADABLE, id="no HTTP"),
            pytest.param(
                b"HTTP/1.1 201 Created\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
                Trouble.UNREADABLE,
                id="endless header",
            ),
            pytest.param(
                b"HTTP/1.1 201 Created\r\n" + b"X: y\r\n" * 200 + b"\r\n",
                Trouble.UNREADABLE,
                id="too many headers",
            ),
            pytest.param(
                b"HTTP/1.1 201 Created\r\nContent-Length: 5, 6\r\n\r\nabcdef",
                Trouble.UNREADABLE,
                id="two lengths",
            ),
            pytest.param(
                b"HTTP/1.1 201 Created\r\nContent-Length: 3\r\nContent-Encoding: gzip\r\n\r\nabc",
                Trouble.UNREADABLE,
                id="false gzip",
            ),
        ],
    )
    def test_each_has_its_name(self, serve, connect_to, said, trouble):
        """A broken reply is ambiguous; its kind is told, and it was asked for once."""
        server = serve(lambda peer: (peer.read(), peer.sock.sendall(said)))
        reply = connect_to(server.url).track(b"{}")
        assert (reply.status, reply.trouble, reply.body) == (None, trouble, b"")
        assert len(server.requests) == 1

    def test_half_a_head_is_a_status_without_a_body(self, serve, connect_to):
        """What came counts: the status is known, and an empty body is evidence of nothing."""
        said = b"HTTP/1.1 201 Created\r\nContent-"
        server = serve(lambda peer: (peer.read(), peer.sock.sendall(said)))
        reply = connect_to(server.url).track(b"{}")
        assert (reply.status, reply.body) == (201, b"")

    def test_a_reset(self, serve, connect_to):
        """A reset connection is ambiguous."""
        server = serve(lambda peer: (peer.read(), peer.reset()))
        assert connect_to(server.url).track(b"{}").trouble is Trouble.RESET

    def test_a_huge_body_is_cut_off(self, serve, connect_to):
        """No more than a megabyte is read, however much there is, and the rest is not awaited."""

        def script(peer):
            peer.read()
            if peer.number == 1:
                peer.sock.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 999999999\r\n\r\n")
                while True:
                    peer.sock.sendall(b" " * 65536)
            peer.answer()

        server = serve(script)
        client = connect_to(server.url)
        assert client.track(b"{}").trouble is Trouble.UNREADABLE
        assert client.track(b"{}").status == 201
        assert server.connections == 2

    def test_a_page_in_html_is_a_reply(self, serve, connect_to, keep_answering):
        """A gateway's page is handed on as it is."""
        server = serve(keep_answering(status=502, body=b"<html>Bad Gateway</html>"))
        reply = connect_to(server.url).track(b"{}")
        assert (reply.status, reply.body) == (502, b"<html>Bad Gateway</html>")

    def test_a_reply_without_a_length(self, serve, connect_to):
        """A body that ends with the connection is read to its end."""
        said = b'HTTP/1.1 201 Created\r\n\r\n{"message":"success"}'
        server = serve(lambda peer: (peer.read(), peer.sock.sendall(said)))
        assert connect_to(server.url).track(b"{}").body == b'{"message":"success"}'

    def test_an_early_answer_is_read(self, serve, connect_to):
        """A server that answers 413 without taking the body is still understood, or a reset."""

        def script(peer):
            peer.answer(status=413)
            peer.sock.shutdown(socket.SHUT_WR)
            while peer.sock.recv(65536):
                pass

        server = serve(script)
        assert connect_to(server.url).track(b"x" * 3_000_000).status == 413
