"""TLS: certificates are checked, and the watchdog works beneath the encryption too."""

import socket
import threading

from worker.pipeline.reply import Trouble

SOON = 0.25  # seconds; a handshake costs some of it
MARGIN = 1.0


def test_it_works_and_is_kept(serve, connect_to, keep_answering, certificate):
    """One handshake serves many requests."""
    server = serve(keep_answering(), tls=certificate.server_side)
    client = connect_to(server.url, ca_file=certificate.file)
    for _ in range(3):
        assert client.track(b"{}").status == 201
    assert (server.connections, len(server.requests)) == (1, 3)


def test_an_unknown_certificate_gets_nothing(serve, connect_to, keep_answering, certificate):
    """A server that cannot prove who it is sees neither key nor body."""
    server = serve(keep_answering(), tls=certificate.server_side)
    assert connect_to(server.url).track(b"{}").trouble is Trouble.NOT_CONNECTED
    assert server.requests == []


def test_another_host_name_gets_nothing(serve, connect_to, keep_answering, certificate):
    """A certificate for another name is as good as none."""
    server = serve(keep_answering(), tls=certificate.server_side)
    url = server.url.replace("127.0.0.1", "localhost")
    reply = connect_to(url, ca_file=certificate.file).track(b"{}")
    assert reply.trouble is Trouble.NOT_CONNECTED
    assert server.requests == []


def test_a_handshake_that_never_comes(serve, connect_to, certificate):
    """A silent handshake ends at the connect's limit."""
    server = serve(lambda peer: peer.hang())
    url = server.url.replace("http:", "https:")
    reply = connect_to(url, connect=SOON, total=20, ca_file=certificate.file).track(b"{}")
    assert reply.trouble is Trouble.NOT_CONNECTED
    assert reply.seconds < SOON + MARGIN


def test_a_handshake_that_drips(serve, connect_to, certificate):
    """So does one that comes a byte at a time, which no time-out of a socket would end."""
    server = serve(lambda peer: peer.drip(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"))
    url = server.url.replace("http:", "https:")
    reply = connect_to(url, connect=SOON, total=20, ca_file=certificate.file).track(b"{}")
    assert reply.trouble is Trouble.NOT_CONNECTED
    assert reply.seconds < SOON + MARGIN


def test_a_dripping_reply_ends(serve, connect_to, certificate):
    """The total holds for encrypted replies."""
    head = b"HTTP/1.1 201 Created\r\nContent-Length: 5000\r\n\r\n"
    server = serve(lambda peer: (peer.read(), peer.drip(head)), tls=certificate.server_side)
    reply = connect_to(server.url, total=SOON, ca_file=certificate.file).track(b"{}")
    assert reply.trouble is Trouble.TIMEOUT
    assert reply.seconds < SOON + MARGIN


def test_writing_ends(serve, connect_to, certificate):
    """And for a body that nobody reads."""
    server = serve(lambda peer: peer.hang(), tls=certificate.server_side)
    client = connect_to(server.url, total=SOON, ca_file=certificate.file)
    reply = client.track(b"x" * 40_000_000)
    assert reply.trouble is Trouble.TIMEOUT
    assert reply.seconds < SOON + MARGIN


def _tunnel(peer):
    """A proxy: take CONNECT, then pass bytes both ways."""
    request = peer.read()
    host, port = request.line.split()[1].split(":")
    peer.sock.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
    with socket.create_connection((host, int(port))) as there:
        back = threading.Thread(target=_pass_on, args=(there, peer.sock))
        back.start()
        _pass_on(peer.sock, there)
        back.join()


def _pass_on(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def test_a_tunnel_through_a_proxy(serve, connect_to, keep_answering, certificate):
    """The proxy sees a host name and bytes; the key goes through encrypted, and is kept."""
    server = serve(keep_answering(), tls=certificate.server_side)
    proxy = serve(_tunnel)
    client = connect_to(server.url, ca_file=certificate.file, proxy=proxy.url)
    assert [client.track(b"{}").status for _ in range(2)] == [201, 201]
    assert len(server.requests) == 2
    (connect,) = proxy.requests
    assert connect.line.startswith(f"CONNECT 127.0.0.1:{server.port} ")
    assert "authorization" not in connect.headers
    client.close()


def test_a_tunnel_through_a_tls_proxy(serve, connect_to, keep_answering, certificate):
    """A proxy with https works as well, and a slow server behind it ends at the total."""

    def script(peer):
        peer.read()
        peer.answer()
        peer.read()
        peer.drip(b"HTTP/1.1 201 Created\r\nContent-Length: 5000\r\n\r\n")

    server = serve(script, tls=certificate.server_side)
    proxy = serve(_tunnel, tls=certificate.server_side)
    client = connect_to(server.url, ca_file=certificate.file, proxy=proxy.url, total=1)
    assert client.track(b"{}").status == 201
    assert client.track(b"{}").trouble is Trouble.TIMEOUT


def test_a_proxy_that_refuses(serve, connect_to, keep_answering, certificate):
    """A tunnel that is refused carried nothing."""
    proxy = serve(keep_answering(status=407))
    client = connect_to("https://127.0.0.1:9", ca_file=certificate.file, proxy=proxy.url)
    assert client.track(b"{}").trouble is Trouble.NOT_CONNECTED


def test_a_proxy_that_drips(serve, connect_to, certificate):
    """A tunnel that is never built ends at the connect's limit."""
    proxy = serve(lambda peer: (peer.read(), peer.drip(b"HTTP/1.1 200 Connected\r\nX: ")))
    client = connect_to(
        "https://127.0.0.1:9", ca_file=certificate.file, proxy=proxy.url, connect=SOON, total=20
    )
    reply = client.track(b"{}")
    assert reply.trouble is Trouble.NOT_CONNECTED
    assert reply.seconds < SOON + MARGIN
