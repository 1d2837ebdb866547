"""Weir, and nginx and HAProxy beside it, before one upstream: who is asked, where, and with what.

Knows nothing of what is asked.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import local

from .servers import KEY, HaProxy, Nginx, Weir, configuration

CHAT = "/v1/chat/completions"
BODY = b'{"model":"gpt-4o","messages":[{"role":"user","content":"hello"}]}'
STREAMED = b'{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hello"}]}'


@dataclass
class Side:
    """Somebody who stands before the upstream."""

    name: str
    process: local.Process
    # Where it takes HTTP/1.1, and where HTTP/2 without TLS.
    address: str
    http2: str
    # What it is presented.
    key: str


@contextlib.contextmanager
def weir(upstream: str, upstream_key: str = "sk-trust", channel: dict | None = None, extra: dict | None = None) -> Iterator[Side]:
    """`channel` is put over each of its channels."""
    channels = configuration("127.0.0.1:0", "127.0.0.1:0", "data", upstream, upstream_key)["channels"]
    channels = [{**one, **(channel or {})} for one in channels]
    with Weir(upstream, upstream_key, {"channels": channels, **(extra or {})}) as process:
        yield Side("Weir", process, process.address, process.address, KEY)


@contextlib.contextmanager
def nginx(upstream: str, upstream_key: str = "sk-trust", seconds: int = 300) -> Iterator[Side]:
    """`seconds` are its patience with the upstream."""
    http2 = f"127.0.0.1:{local.free_port()}"
    limits = f"""\
listen {http2} http2;
location /v1/ {{
    proxy_pass http://provider;
    proxy_http_version 1.1;
    proxy_set_header connection "";
    proxy_buffering off;
    proxy_next_upstream off;
    proxy_connect_timeout {seconds}s;
    proxy_read_timeout {seconds}s;
}}"""
    with Nginx(upstream, limits) as process:
        yield Side("nginx", process, process.address, http2, upstream_key)


@contextlib.contextmanager
def haproxy(upstream: str, upstream_key: str = "sk-trust", seconds: int = 300) -> Iterator[Side]:
    """`seconds` are its patience with the upstream."""
    http2 = f"127.0.0.1:{local.free_port()}"
    with HaProxy(upstream, f"bind {http2} proto h2", f"timeout server {seconds}s\n    timeout connect {seconds}s") as process:
        yield Side("HAProxy", process, process.address, http2, upstream_key)
