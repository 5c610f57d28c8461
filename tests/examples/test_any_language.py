"""examples/any_language: a shell and Node.js send tasks by REST and by XADD, each arrives once, and the results come back."""

import json
from pathlib import Path

from tests.examples.stage import needed, staged
from tests.redis_servers import Server

HAMLET = {"be": 2, "not": 1, "or": 1, "to": 2}
BRECHT = {"dann": 1, "das": 1, "die": 1, "erst": 1, "fressen": 1, "kommt": 2, "moral": 1, "und": 1}


def counted(said: str) -> dict[str, dict[str, int]]:
    return {name: json.loads(words) for name, words in (line.split(" ", 1) for line in said.splitlines())}


async def test_each_arrives_once_and_its_result_comes_back(own_valkey: Server, tmp_path: Path) -> None:
    for program in ("curl", "redis-cli", "node"):
        needed(program)
    with staged("any_language", own_valkey, tmp_path) as stage:
        stage.environment["STOKER_GATEWAY"] = stage.gateway
        await stage.up()
        for _ in range(2):  # whoever has lost an answer sends again
            assert counted(await stage.run("bash send.sh")) == {"hamlet-rest": HAMLET, "hamlet-xadd": HAMLET}
            assert counted(await stage.run("node send.mjs")) == {"brecht-rest": BRECHT, "brecht-xadd": BRECHT}
        quoted = counted(await stage.shell("""node send.mjs quoted 'ein "Wörtchen" 字'"""))
        assert quoted["quoted-xadd"] == quoted["quoted-rest"] == {"ein": 1, '"wörtchen"': 1, "字": 1}
        [stats] = json.loads(await stage.shell("stoker stats --json"))
        assert (stats["totals"]["enqueued"], stats["totals"]["succeeded"], stats["dead"]) == (6, 6, 0)


async def test_an_error_is_reported(own_valkey: Server, tmp_path: Path) -> None:
    with staged("any_language", own_valkey, tmp_path) as stage:
        stage.environment["STOKER_GATEWAY"] = stage.gateway
        await stage.up()
        refused = await stage.shell("bash send.sh bad '{\"text\": ' 2>&1 || true")
        assert "urn:stoker:problem:not-json" in refused
        wrong = await stage.shell("""bash send.sh wrong '{"words": "?"}' 2>&1 || true""")
        assert "text" in wrong
        assert '"state":"dead"' in wrong
