"""Several servers that make one Redis: a cluster, a master with a replica under sentinels, a server behind TLS."""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import redis

from tests.redis_servers import PAUSE, Kind, Server, free_port

SETTLES_WITHIN = 30.0
SLOTS = 16384


def eventually(condition: Callable[[], object], within: float = SETTLES_WITHIN) -> None:
    """Wait for it. Raises AssertionError with its name when it does not come."""
    deadline = time.monotonic() + within
    while not _true(condition):
        assert time.monotonic() < deadline, f"not within {within:g} s: {condition.__name__}"
        time.sleep(PAUSE)


def _true(condition: Callable[[], object]) -> bool:
    try:
        return bool(condition())
    except redis.RedisError:
        return False


def started(stack: ExitStack, *options: str, kind: Kind) -> Server:
    """A server that ends with the stack."""
    server = Server(*options, kind=kind)
    stack.callback(server.stop)
    server.start()
    return server


def client(server: Server) -> redis.Redis:
    """A plain client of one server, for looking behind the scenes."""
    return redis.Redis.from_url(server.url, socket_timeout=5)


def ask(server: Server, *command: str | int) -> Any:
    """One command, one answer."""
    with client(server) as connection:
        return connection.execute_command(*command)


class ClusterOf(NamedTuple):
    """A Redis Cluster; `replica` follows the first of the `masters`."""

    masters: list[Server]
    replica: Server | None

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.masters)

    def owner(self, key: str) -> Server:
        """The master that has this key's slot, as the first node that answers sees it."""
        slot = int(str(ask(self.masters[-1], "CLUSTER", "KEYSLOT", key)))
        with client(self.masters[-1]) as connection:
            for first, last, (_, port, *_), *_ in connection.execute_command("CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return next(server for server in self.servers if server.port == port)
        raise AssertionError(f"slot {slot} belongs to nobody")

    @property
    def servers(self) -> list[Server]:
        return [*self.masters, *([self.replica] if self.replica else [])]


@contextmanager
def running_cluster(kind: Kind, *, with_replica: bool = False) -> Iterator[ClusterOf]:
    """Three masters on loopback that agree on who has which slot; with `with_replica` the first can be lost."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        nodes = [_node(stack, folder, kind) for _ in range(3 + with_replica)]
        servers = [server for server, _ in nodes]
        for at, (server, _) in enumerate(nodes[:3]):
            ask(server, "CLUSTER", "ADDSLOTSRANGE", SLOTS * at // 3, SLOTS * (at + 1) // 3 - 1)
        for server, bus in nodes[1:]:
            ask(servers[0], "CLUSTER", "MEET", "127.0.0.1", server.port, bus)

        def all_agree() -> bool:
            return all(_view(each) == ("ok", str(len(servers))) for each in servers[:3])

        eventually(all_agree)
        if with_replica:
            _follow(servers[0], servers[3])
        yield ClusterOf(servers[:3], servers[3] if with_replica else None)


def _node(stack: ExitStack, folder: str, kind: Kind) -> tuple[Server, int]:
    bus = free_port()
    options = (
        "--cluster-enabled",
        "yes",
        "--cluster-config-file",
        f"nodes-{bus}.conf",
        "--dir",
        folder,
        "--cluster-port",
        str(bus),
    )
    # Half a second of silence makes a node suspect; a real one would be given fifteen.
    options += ("--cluster-node-timeout", "500", "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0")
    return started(stack, *options, kind=kind), bus


def _view(server: Server) -> tuple[str, str]:
    found = ask(server, "CLUSTER INFO")
    return found["cluster_state"], found["cluster_known_nodes"]


def _follow(master: Server, replica: Server) -> None:
    name = ask(master, "CLUSTER", "MYID")

    def knows_its_master() -> bool:
        return bool(ask(replica, "CLUSTER", "REPLICATE", name))

    def is_in_sync() -> bool:
        with client(replica) as connection:
            return connection.info("replication")["master_link_status"] == "up"

    eventually(knows_its_master)
    eventually(is_in_sync)


class Sentinels(NamedTuple):
    """A master, its replica, and three sentinels that watch them."""

    master: Server
    replica: Server
    ports: list[int]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/main"


@contextmanager
def running_pair(kind: Kind, *options: str) -> Iterator[tuple[Server, Server]]:
    """A master and a replica that is in sync with it."""
    with ExitStack() as stack:
        options = ("--repl-diskless-sync-delay", "0", *options)
        master = started(stack, *options, kind=kind)
        replica = started(stack, *options, kind=kind)
        ask(replica, "REPLICAOF", "127.0.0.1", master.port)

        def is_in_sync() -> bool:
            with client(master) as connection:
                return "state=online" in str(connection.execute_command("INFO", "replication")) or _online(connection)

        eventually(is_in_sync)
        yield master, replica


def _online(connection: redis.Redis) -> bool:
    found = connection.info("replication")
    return any(isinstance(value, dict) and value.get("state") == "online" for value in found.values())


@contextmanager
def running_sentinels(kind: Kind, *options: str, password: str = "") -> Iterator[Sentinels]:
    """Sentinels that find a master dead after half a second. `password` is theirs, not the master's."""
    with running_pair(kind, *options) as (master, replica), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = [_sentinel(stack, folder, kind, master.port, password) for _ in range(3)]

        def know_each_other() -> bool:
            return all(_others(port, password) == (2, 1) for port in ports)

        eventually(know_each_other)
        yield Sentinels(master, replica, ports)


def _sentinel(stack: ExitStack, folder: Path, kind: Kind, master: int, password: str) -> int:
    port = free_port()
    configuration = folder / f"sentinel-{port}.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/sentinel-{port}.log\n"
        f"sentinel monitor main 127.0.0.1 {master} 2\nsentinel down-after-milliseconds main 500\n"
        "sentinel failover-timeout main 3000\n"
        + (f"requirepass {password}\nsentinel sentinel-pass {password}\n" if password else "")
    )
    process = subprocess.Popen([kind.binary, str(configuration), "--sentinel"], stdout=subprocess.DEVNULL)
    stack.callback(process.wait, 5)
    stack.callback(process.kill)

    def answers() -> bool:
        with redis.Redis(port=port, password=password) as connection:
            return bool(connection.ping())

    eventually(answers)
    return port


def _others(port: int, password: str) -> tuple[int, int]:
    with redis.Redis(port=port, password=password) as connection:
        state = connection.sentinel_masters()["main"]
        return state["num-other-sentinels"], state["num-slaves"]


class Certificates(NamedTuple):
    """A certificate authority's word for a server on loopback and for its clients."""

    folder: Path

    @property
    def query(self) -> str:
        """What a URL says to trust the server and be trusted."""
        return f"ssl_ca_certs={self.folder}/ca.crt&ssl_certfile={self.folder}/client.crt&ssl_keyfile={self.folder}/client.key"


def make_certificates(folder: Path) -> Certificates:
    """By openssl, in a fraction of a second."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test authority", "-days", "2")
    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1\n")
    (folder / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
    for name in ("server", "client"):
        openssl("req", "-new", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
    return Certificates(folder)


@contextmanager
def running_tls(certificates: Certificates) -> Iterator[int]:
    """A server that speaks only TLS and only to clients with a certificate. Yields its port; Valkey's wheel has no TLS."""
    port = free_port()
    files = certificates.folder
    options = ("--tls-port", str(port), "--tls-cert-file", f"{files}/server.crt", "--tls-key-file", f"{files}/server.key")
    with ExitStack() as stack:
        started(stack, *options, "--tls-ca-cert-file", f"{files}/ca.crt", kind=Kind.REDIS_7)
        yield port
