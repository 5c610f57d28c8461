"""The operator looks into Redis: what it cannot read of one queue does not blind it for the others."""

from stoker.queue.broker import Broker
from stoker.queue.keys import Keys
from stoker.redis.connect import connect
from stoker.rules.admission import Admission
from stoker.rules.message import Message, encode_payload
from stoker_operator.readings import Readings
from stoker_operator.roster import Reading
from tests.operator.operating import until
from tests.redis_servers import Kind
from tests.redis_topologies import ask, running_cluster


async def test_a_cluster_that_has_lost_a_node_is_read_as_far_as_it_goes() -> None:
    with running_cluster(Kind.VALKEY_9) as cluster:
        for node in cluster.masters:
            ask(node, "CONFIG", "SET", "cluster-require-full-coverage", "no")
        queues = {cluster.owner(Keys("stoker", name).ready).port: name for name in map("queue-{}".format, range(40))}
        redis = connect(cluster.url)
        for name in queues.values():
            await Broker(redis, Keys("stoker", name)).enqueue([Admission(Message("a", "t", encode_payload({}), name, 0))])
        await redis.aclose()
        lost, *left = cluster.masters
        readings = Readings("stoker", 2.0)
        places = [[queues[lost.port]], *([queues[node.port]] for node in left)]
        assert all(reading.stats for reading in await readings.read(cluster.url, places))

        lost.stop()

        async def found() -> list[Reading]:
            blind, *others = await readings.read(cluster.url, places)
            return [blind] if blind.trouble and all(each.stats and each.stats.ready == 1 for each in others) else []

        [blind] = await until(found)
        assert blind.trouble.reason == "RedisUnreachable"
        await readings.keep_only(())
