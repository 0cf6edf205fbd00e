"""The requests adapter of one address: one pool, no retries, nothing looked up twice.

`requests` looks up pool, proxy, certificates and cookies anew for every request; for one fixed
address this costs more than the request itself, so it is settled once, here.
"""

import ssl
from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.util import Retry

from worker.braze.connections import WatchedHTTPPool, WatchedHTTPSPool

_POOLS = {"http": WatchedHTTPPool, "https": WatchedHTTPSPool}


class OneAddressAdapter(HTTPAdapter):
    """Sends to one URL, through one pool of watched connections."""

    def __init__(
        self,
        url: str,
        *,
        context: ssl.SSLContext,
        pool_size: int,
        proxy: str | None,
        idle: float,
        clock: Callable[[], float],
    ) -> None:
        self._context = context
        super().__init__(1, pool_size, max_retries=Retry(0, read=False), pool_block=False)
        manager = self.proxy_manager_for(proxy) if proxy else self.poolmanager
        manager.pool_classes_by_scheme = _POOLS
        self._pool: Any = manager.connection_from_url(url)
        self._pool.clock = clock
        self._pool.idle = idle
        # A plain request through a proxy names the whole URL; inside a tunnel only the path.
        forwarded = proxy is not None and url.startswith("http://")
        self._target = url if forwarded else "/" + url.split("://", 1)[1].split("/", 1)[1]

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any
    ) -> None:
        """All connections use the one TLS context."""
        super().init_poolmanager(
            connections, maxsize, block, ssl_context=self._context, **pool_kwargs
        )

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """So does a proxy's own connection, if it speaks TLS."""
        return super().proxy_manager_for(
            proxy, ssl_context=self._context, proxy_ssl_context=self._context, **proxy_kwargs
        )

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        """The one pool."""
        pool: HTTPConnectionPool = self._pool
        return pool

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """The TLS context has the authorities already; set here, they are loaded per connect."""

    def request_url(self, *_: Any, **__: Any) -> str:
        """The one target."""
        return self._target

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """Status and stream only; headers are read from the stream, cookies are not kept."""
        response = requests.Response()
        response.status_code = resp.status
        response.raw = resp
        response.request = req
        return response

    def close(self) -> None:
        """Close every idle connection; those in use close when they come back."""
        self._pool.close()
        super().close()
