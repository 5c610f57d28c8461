"""One socket for both families of addresses, as a cluster of one or the other needs it."""

import socket

import pytest

from stoker.listening import EVERYWHERE, listen


def reached(address: str, port: int) -> bool:
    with socket.create_connection((address, port), timeout=5):
        return True


def test_everywhere_is_both_families() -> None:
    with listen(EVERYWHERE, 0) as listening:
        port = listening.getsockname()[1]
        assert reached("127.0.0.1", port)
        assert reached("::1", port)


def test_without_ipv6_everywhere_is_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listen(EVERYWHERE, 0) as listening:
        assert listening.family == socket.AF_INET
        assert reached("127.0.0.1", listening.getsockname()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_one_address_is_that_alone(host: str) -> None:
    other = "::1" if host == "127.0.0.1" else "127.0.0.1"
    with listen(host, 0) as listening:
        port = listening.getsockname()[1]
        assert reached(host, port)
        with pytest.raises(OSError, match="refused"):
            reached(other, port)
