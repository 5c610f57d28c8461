"""Listening sockets for probes and pages, of both families of addresses where the kernel has both."""

import socket

EVERYWHERE = "::"
"""All addresses: of IPv6, and of IPv4 through the same socket. On a kernel without IPv6, all of IPv4."""
BACKLOG = 128


def listen(host: str, port: int, backlog: int = BACKLOG) -> socket.socket:
    """A TCP socket that listens. Port 0 takes any free one. Raises OSError, as for a port that is taken."""
    if host == EVERYWHERE:
        if socket.has_dualstack_ipv6():
            return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog)
        host = "0.0.0.0"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=backlog)
