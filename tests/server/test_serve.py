"""The way from settings to a socket."""

from __future__ import annotations

import socket

import pytest

from farthing.errors import UserError
from farthing.server.serve import listen_on


def test_who_connects_before_anybody_accepts_waits_instead_of_being_refused() -> None:
    """The address is printed while the application still starts, and scripts go there at once."""
    with (
        listen_on("127.0.0.1", 0) as listening,
        socket.create_connection(listening.getsockname(), timeout=5) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\n")


def test_an_address_in_use_is_named_with_another_to_try() -> None:
    with listen_on("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port}: .*; try --port {port + 1}"):
            listen_on("127.0.0.1", port)
