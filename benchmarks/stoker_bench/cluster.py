"""Three nodes that are one Redis Cluster, and a way to hold each to a share of a core."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis.exceptions import RedisError

from stoker_bench import server

NODES, SLOTS = 3, 16384
START_LIMIT = 20.0
PERIOD_US = 10_000


class Cluster(server.Server):
    """The nodes, in the order of their slots; as a server it is all of them together."""

    def __init__(self, nodes: Sequence[server.Server]) -> None:
        super().__init__(nodes[0].process, nodes[0].port)
        self.nodes = nodes
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)

    @property
    def cpu(self) -> int:
        return sum(node.cpu for node in self.nodes)

    @property
    def memory(self) -> int:
        return sum(node.memory for node in self.nodes)

    @property
    def network(self) -> int:
        return sum(node.network for node in self.nodes)

    def node_of(self, key: str) -> int:
        """Which node has this key's slot."""
        slot = int(self.nodes[0].ask("CLUSTER", "KEYSLOT", key))
        return next(number for number in reversed(range(NODES)) if slot >= SLOTS * number // NODES)


@contextmanager
def running(binary: Path, folder: Path) -> Iterator[Cluster]:
    """A fresh cluster, gone afterwards."""
    with ExitStack() as stack:
        nodes, buses = [], []
        for number in range(NODES):
            home = folder / f"node-{number}"
            home.mkdir()
            buses.append(server.free_port())
            options = ("--cluster-enabled", "yes", "--cluster-port", str(buses[-1]))
            nodes.append(stack.enter_context(server.running(binary, home, *options)))
            nodes[-1].ask("CLUSTER", "ADDSLOTSRANGE", SLOTS * number // NODES, SLOTS * (number + 1) // NODES - 1)
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        deadline = time.monotonic() + START_LIMIT
        while not all(_knows_all(node) for node in nodes):
            if time.monotonic() > deadline:
                raise SystemExit(f"error: the cluster's nodes did not find each other; see {folder}")
            time.sleep(0.05)
        yield Cluster(nodes)


def _knows_all(node: server.Server) -> bool:
    try:
        found = bytes(node.ask("CLUSTER", "INFO"))
    except RedisError:
        return False
    return b"cluster_state:ok" in found and f"cluster_known_nodes:{NODES}\r".encode() in found


@contextmanager
def held_to(share: float, processes: Sequence[int]) -> Iterator[None]:
    """Each process gets at most this share of a core. Raises SystemExit where the machine has no way to say so."""
    root = next((path for path in (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")) if path.exists()), None)
    homes = []
    try:
        if root is None:
            raise OSError("no control groups")
        for process in processes:
            home = root / f"stoker-bench-{process}"
            home.mkdir()
            homes.append(home)
            quota = str(round(share * PERIOD_US))
            if (home / "cpu.max").exists():
                (home / "cpu.max").write_text(f"{quota} {PERIOD_US}")
            else:
                (home / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (home / "cpu.cfs_quota_us").write_text(quota)
            (home / "cgroup.procs").write_text(str(process))
        yield
    except OSError as error:
        raise SystemExit(f"error: the nodes cannot be held to a share of a core: {error}; run as root") from error
    finally:
        for home, process in zip(homes, processes, strict=False):
            (home.parent / "cgroup.procs").write_text(str(process))
            home.rmdir()
