"""The Redis user of a namespace against every command of every server: it reads, writes and lists nothing of another namespace."""

from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError

from stoker.redis.connect import connect
from stoker.redis.users import set_user, user_names
from stoker_operator.credentials.tenant import tenant_data, tenant_user, user_name
from tests.redis_servers import Kind, Server, running_valkey

PASSWORD = "a-password-of-thirty-characters"
OWN, VICTIM = "{shop:emails}", "{shopping:emails}"
OTHERS = (
    "{shopping:emails}",
    "{shopping}",
    "{shop-eu:emails}",
    "{sho:emails}",
    "shop",
    "{Shop:emails}",
    "x{shop:emails}",
    "{shop}x",
)
"""Whose names look like it: no pattern may match them."""
SERVER_WIDE = frozenset({"auth", "hello", "reset", "quit"})
"""Allowed to every user by the server itself; they concern one's own connection."""
WITHOUT_KEYS = frozenset({"ping", "time", "info", "wait", "waitaof", "eval", "evalsha"})
"""Of the user's rights those that name no key. Scripts are tried below."""


@pytest.fixture(scope="module", params=list(Kind), ids=lambda kind: kind.value)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    # By default the server refuses these to everyone, before it looks at rights.
    unlocked = ["--enable-debug-command", "yes", "--enable-module-command", "yes"] if request.param is not Kind.REDIS_6 else []
    with running_valkey(*unlocked, kind=request.param) as running:
        yield running


@pytest.fixture
async def tenant(server: Server) -> AsyncIterator[redis.Redis]:
    """The tenant of namespace `shop`, on a server with keys of others."""
    with closing(redis.Redis.from_url(server.url)) as master:
        master.flushall()
        master.script_flush()
        for other in (*OTHERS, OWN):
            master.set(f"{other}:text", "secret")
            master.hset(f"{other}:meta", "claim", "secret")
            master.zadd(f"{other}:ready", {"id": 1})
            master.rpush(f"{other}:wake", "x")
            master.sadd(f"{other}:queues", "emails")
            master.xadd(f"{other}:inbox", {"task": "secret"})
    client = connect(server.url)
    user = tenant_user("shop", PASSWORD)
    await set_user(client, user.name, user.password, user.rules, user.optional)
    await client.aclose()
    with closing(redis.Redis.from_url(tenant_data(server.url, "shop", PASSWORD)["STOKER_REDIS_URL"], retry=None)) as few:
        yield few


def world(server: Server) -> dict[bytes, Any]:
    """All that the others have, and what is the server's own."""
    with closing(redis.Redis.from_url(server.url)) as master:
        found: dict[bytes, Any] = {key: master.dump(key) for key in master.scan_iter() if not key.startswith(b"{shop:")}
        found[b"users"] = master.execute_command("ACL", "LIST")
        found[b"settings"] = master.config_get("*")
        found[b"role"] = master.execute_command("ROLE")[0]
    return found


def commands(server: Server) -> dict[str, int]:
    """Every command of the server and its arity; of those with subcommands, each as two words."""
    with closing(redis.Redis.from_url(server.url)) as master:
        found: dict[str, int] = {}
        connection = master.connection_pool.get_connection()
        try:
            connection.send_command("COMMAND")
            for command in connection.read_response():
                subcommands = command[9] if len(command) > 9 else []
                for name, arity, *_ in subcommands or [command]:
                    found[name.decode().replace("|", " ")] = arity
        finally:
            master.connection_pool.release(connection)
    return found


# Those whose first key does not come first: their own grammar, with a key of the victim.
PHRASES = {
    "bitop": ("BITOP", "NOT", f"{VICTIM}:text", f"{VICTIM}:text"),
    "object": ("OBJECT", "ENCODING", f"{VICTIM}:text"),
    "xread": ("XREAD", "STREAMS", f"{VICTIM}:inbox", "0"),
    "xreadgroup": ("XREADGROUP", "GROUP", "g", "c", "STREAMS", f"{VICTIM}:inbox", ">"),
    "xgroup": ("XGROUP", "CREATE", f"{VICTIM}:inbox", "g", "0"),
    "xinfo": ("XINFO", "STREAM", f"{VICTIM}:inbox"),
    "migrate": ("MIGRATE", "127.0.0.1", "1", f"{VICTIM}:text", "0", "10"),
}
NUMKEYS = {"sintercard", "zdiff", "zinter", "zintercard", "zunion", "lmpop", "zmpop"}


def phrase(name: str, arity: int) -> tuple[str, ...]:
    """The command with a key of the victim wherever one may stand."""
    if name in PHRASES:
        return PHRASES[name]
    if name in NUMKEYS:
        return (name, "1", f"{VICTIM}:ready", *(["LEFT"] if name == "lmpop" else ["MIN"] if name == "zmpop" else []))
    words = name.split()
    return (*words, *[f"{VICTIM}:ready"] * max(abs(arity) - len(words), 1 if arity < 0 else 0))


def answer(client: redis.Redis, *command: str) -> Any:
    """The server's reply to exactly these words, on a connection of its own: an exception if it is an error."""
    pool = client.connection_pool
    connection = pool.connection_class(**pool.connection_kwargs)
    try:
        connection.connect()
        connection.send_command(*command)
        return connection.read_response()
    except redis.RedisError as error:
        return error
    finally:
        connection.disconnect()


def test_every_command_of_the_server_is_refused_on_a_key_of_another(tenant: redis.Redis, server: Server) -> None:
    before = world(server)
    every = commands(server)
    assert len(every) > 200
    let_through = {}
    for name, arity in every.items():
        if name in SERVER_WIDE | WITHOUT_KEYS:
            continue
        reply = answer(tenant, *phrase(name, arity))
        if not isinstance(reply, NoPermissionError | redis.exceptions.ExecAbortError):  # EXEC aborts when it is refused
            let_through[name] = reply
    assert let_through == {}
    assert world(server) == before


OWN_KEY, FOREIGN = f"{OWN}:ready", f"{VICTIM}:ready"
ATTACKS = [
    ("KEYS", "*"),
    ("KEYS", "{shop:*"),
    ("SCAN", "0"),
    ("SCAN", "0", "MATCH", "{shop:*"),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("TYPE", FOREIGN),
    ("EXISTS", FOREIGN),
    ("EXISTS", OWN_KEY, FOREIGN),
    ("OBJECT", "ENCODING", FOREIGN),
    ("MEMORY", "USAGE", FOREIGN),
    ("DEBUG", "OBJECT", FOREIGN),
    ("HGETALL", f"{VICTIM}:meta"),
    ("HSET", f"{VICTIM}:meta", "paused", "1"),
    ("HSCAN", f"{VICTIM}:meta", "0"),
    ("SMEMBERS", "{shopping}:queues"),
    ("SADD", "{shopping}:queues", "x"),
    ("BLPOP", f"{VICTIM}:wake", "1"),
    ("BLPOP", f"{OWN}:nothing", f"{VICTIM}:wake", "1"),
    ("LPUSH", f"{VICTIM}:wake", "x"),
    ("XADD", f"{VICTIM}:inbox", "*", "task", "x"),
    ("XREAD", "STREAMS", f"{OWN}:inbox", f"{VICTIM}:inbox", "0", "0"),
    ("XREAD", "BLOCK", "1", "STREAMS", f"{VICTIM}:inbox", "0"),
    ("SORT", OWN_KEY, "BY", f"{VICTIM}:*", "GET", f"{VICTIM}:*"),
    ("SORT_RO", OWN_KEY, "GET", f"{VICTIM}:text"),
    ("COPY", f"{VICTIM}:text", f"{OWN}:text"),
    ("RENAME", f"{VICTIM}:text", f"{OWN}:text"),
    ("RENAMENX", f"{OWN}:text", f"{VICTIM}:new"),
    ("MOVE", f"{VICTIM}:text", "1"),
    ("DUMP", f"{VICTIM}:text"),
    ("RESTORE", f"{VICTIM}:text", "0", "x", "REPLACE"),
    ("ZUNIONSTORE", OWN_KEY, "1", FOREIGN),
    ("ZRANGESTORE", OWN_KEY, FOREIGN, "0", "-1"),
    ("DEL", FOREIGN),
    ("UNLINK", FOREIGN),
    ("EXPIRE", FOREIGN, "1"),
    ("PEXPIRE", FOREIGN, "1"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", "0", "1"),
    ("SELECT", "1"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "PAUSE", "1"),
    ("CLIENT", "TRACKING", "on", "BCAST"),
    ("CONFIG", "GET", "requirepass"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("ACL", "LIST"),
    ("ACL", "GETUSER", "default"),
    ("ACL", "SETUSER", "stoker.shop", "~*"),
    ("ACL", "LOG"),
    ("MONITOR",),
    ("SUBSCRIBE", "x"),
    ("PSUBSCRIBE", "*"),
    ("PUBLISH", "x", "y"),
    ("PUBSUB", "CHANNELS"),
    ("SLOWLOG", "GET"),
    ("LATENCY", "LATEST"),
    ("MULTI",),
    ("WATCH", FOREIGN),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("SCRIPT", "LOAD", "return 1"),
    ("FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('f', function() return 1 end)"),
    ("FUNCTION", "DUMP"),
    ("FCALL", "f", "0"),
    ("MODULE", "LIST"),
    ("SAVE",),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("PSYNC", "?", "-1"),
    ("SYNC",),
    ("CLUSTER", "NODES"),
    ("COMMAND",),
    ("GETKEYS",),
    ("ROLE",),
    ("LASTSAVE",),
]


def names(command: tuple[str, ...]) -> str:
    return " ".join(command)[:60]


def test_every_family_of_commands_is_refused(tenant: redis.Redis, server: Server) -> None:
    before = world(server)
    unknown, known = [], commands(server)
    for attack in ATTACKS:
        reply = answer(tenant, *attack)
        if not isinstance(reply, NoPermissionError):
            assert "unknown command" in str(reply), f"{names(attack)}: {reply!r}"
            unknown.append(attack[0].lower())
    assert not set(unknown) & {name.split()[0] for name in known}
    assert world(server) == before


SCRIPTS = [
    f"return redis.call('HGETALL', '{VICTIM}:meta')",
    f"return redis.pcall('HGETALL', '{VICTIM}:meta')",
    "return redis.call('HGETALL', KEYS[2])",
    "return redis.call('HSET', KEYS[2], 'paused', 1)",
    "return redis.call('HGETALL', ARGV[1])",
    "return redis.call('SCAN', 0)",
    "return redis.call('KEYS', '*')",
    "return redis.call('RANDOMKEY')",
    "return redis.call('DBSIZE')",
    "return redis.call('FLUSHALL')",
    "return redis.call('PUBLISH', 'x', 'y')",
    "return redis.call('SELECT', 1)",
    "return redis.call('SORT', KEYS[1], 'GET', ARGV[1])",
    f"return redis.call('COPY', '{VICTIM}:text', KEYS[1])",
    f"return redis.call('RENAME', '{VICTIM}:text', KEYS[1])",
    f"return redis.call('XREAD', 'STREAMS', '{VICTIM}:inbox', '0')",
    "return redis.call('CONFIG', 'GET', '*')",
    "return redis.call('ACL', 'WHOAMI')",
]


def test_a_script_has_no_more_rights_than_its_caller(tenant: redis.Redis, server: Server) -> None:
    before = world(server)
    for script in SCRIPTS:
        for keys in ([f"{OWN}:meta", f"{VICTIM}:meta"], [f"{OWN}:meta"]):
            reply = answer(tenant, "EVAL", script, str(len(keys)), *keys, f"{VICTIM}:meta")
            assert isinstance(reply, redis.RedisError), f"{script} with {keys}: {reply!r}"
            assert b"secret" not in str(reply).encode()
    assert answer(tenant, "EVAL", "return redis.call('HGET', KEYS[1], 'claim')", "1", f"{OWN}:meta") == b"secret"
    assert world(server) == before


@pytest.mark.parametrize("other", OTHERS)
def test_no_name_that_looks_like_it_is_matched(tenant: redis.Redis, other: str) -> None:
    """`{shop:*` and `{shop}:*`: braces stand for themselves in patterns."""
    assert isinstance(answer(tenant, "HGET", f"{other}:meta", "claim"), NoPermissionError)


def test_what_is_its_own_it_may_use(tenant: redis.Redis) -> None:
    assert tenant.hget(f"{OWN}:meta", "claim") == b"secret"
    assert tenant.sadd("{shop}:queues", "emails") == 1
    assert tenant.wait(0, 1) == 0
    assert tenant.xadd(f"{OWN}:inbox", {"task": "add"})


def test_the_servers_statistics_name_no_key_of_another(tenant: redis.Redis) -> None:
    """INFO is allowed, since workers look at the server's settings with it. It has sums over all tenants, and no names."""
    for section in ("default", "all", "everything", "keyspace", "clients"):
        text = answer(tenant, "INFO", section)
        assert b"shopping" not in text
        assert b"secret" not in text


def test_the_default_user_stays_what_it_is(tenant: redis.Redis, server: Server) -> None:
    """Its password is asked for where it has one; a reset connection is nobody."""
    with running_valkey("--requirepass", "master", kind=server.kind) as locked, closing(redis.Redis.from_url(locked.url)) as client:
        for attempt in (("AUTH", "default", ""), ("AUTH", "default", PASSWORD), ("AUTH", "stoker.shop", PASSWORD), ("KEYS", "*")):
            assert isinstance(answer(client, *attempt), redis.RedisError)


async def test_made_again_it_keeps_its_clients_and_changes_its_password(tenant: redis.Redis, server: Server) -> None:
    assert tenant.ping()
    master = connect(server.url)
    try:
        user = tenant_user("shop", "another-password-of-many-characters")
        for _ in range(2):
            await set_user(master, user.name, user.password, user.rules, user.optional)
        assert tenant.hget(f"{OWN}:meta", "claim") == b"secret"
        assert user_name("shop") in await user_names(master)
    finally:
        await master.aclose()
    for password, error in ((PASSWORD, redis.AuthenticationError), (user.password, None)):
        with closing(redis.Redis.from_url(tenant_data(server.url, "shop", password)["STOKER_REDIS_URL"], retry=None)) as again:
            if error:
                with pytest.raises(error):
                    again.ping()
            else:
                assert again.ping()
