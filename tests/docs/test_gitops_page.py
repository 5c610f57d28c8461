"""Argo CD's health script on the page on GitOps, run by the Lua of a Redis."""

import json
from typing import Any

import pytest
import yaml
from redis.asyncio import Redis

from stoker_operator.report.condition import Condition
from stoker_operator.report.conditions import as_status
from stoker_operator.state.problem import Reason
from tests.docs.pages import ROOT, blocks
from tests.redis_servers import Server

PAGE = ROOT / "docs/how-to/gitops.md"
Conditions = list[Condition] | None
READY = Condition("Ready", "True", Reason.WORKERS_READY, "2 of 2 workers ready")
STARTING = Condition("Ready", "Unknown", Reason.WORKERS_STARTING, "0 of 1 worker ready")
FAILING = Condition("Ready", "False", Reason.WORKERS_FAILING, "pod emails-1: ImagePullBackOff")


def script() -> str:
    (config,) = (each for block in blocks(PAGE) if "argocd-cm" in block.text for each in yaml.safe_load_all(block.text))
    return str(config["data"]["resource.customizations.health.stoker.dev_TaskQueue"])


@pytest.mark.parametrize(
    ("status", "health"),
    [
        pytest.param(None, "Progressing", id="new"),
        pytest.param([], "Progressing", id="no condition yet"),
        pytest.param([READY], "Healthy", id="ready"),
        pytest.param([STARTING, Condition("Reconciling", "True", Reason.WORKERS_STARTING, "")], "Progressing", id="starting"),
        pytest.param([FAILING], "Degraded", id="failing"),
        pytest.param([Condition("Ready", "False", Reason.WORKERS_MISSING, "")], "Progressing", id="no Deployment yet"),
        pytest.param([READY, Condition("Suspended", "True", Reason.SUSPENDED, "")], "Suspended", id="suspended"),
        pytest.param(
            [
                Condition("Ready", "False", Reason.INVALID_SPEC, ""),
                Condition("Stalled", "True", Reason.INVALID_SPEC, ""),
                Condition("Suspended", "True", Reason.SUSPENDED, ""),
            ],
            "Degraded",
            id="stalled, and suspended",
        ),
    ],
)
@pytest.mark.parametrize("generation", [pytest.param(3, id="seen"), pytest.param(4, id="edited since")])
async def test_argo_cd_shows_the_health(
    shared_valkey: Server, status: list[Condition] | None, health: str, generation: int
) -> None:
    task_queue: dict[str, Any] = {"metadata": {"generation": generation}}
    if status is not None:
        task_queue["status"] = {"observedGeneration": 3, "conditions": as_status(status, (), 3, "2026-01-01T00:00:00Z")}
    shown = await run(shared_valkey, task_queue)
    assert shown["status"] == (health if generation == 3 else "Progressing")
    assert shown["message"]


async def run(server: Server, task_queue: dict[str, Any]) -> dict[str, Any]:
    """The script's table, for `obj` as Argo CD sets it."""
    program = f"local obj = cjson.decode(ARGV[1])\nlocal function check()\n{script()}\nend\nreturn cjson.encode(check())"
    async with Redis.from_url(server.url) as client:
        return dict(json.loads(await client.eval(program, 0, json.dumps(task_queue))))  # type: ignore[misc]
