"""Schedules over REST: listed, run, paused, changed and reset."""

import httpx
import pytest

from stoker import cron
from stoker.client.client import Client
from stoker.queue.schedules import TASKQUEUE
from stoker.rules.schedule import Definition

NIGHTLY = Definition("nightly", cron("30 2 * * *", time_zone="Europe/Berlin"), "report")


async def test_a_schedule_is_run_paused_changed_and_reset(api: httpx.AsyncClient, client: Client) -> None:
    schedules = client.inspector.schedules("reports")
    await schedules.register("code:shop", 1, [NIGHTLY])
    [found] = (await api.get("/v1/schedules?queue=reports")).json()["schedules"]
    assert (found["name"], found["source"], found["cron"]) == ("nightly", "code:shop", "30 2 * * *")

    async def act(what: str, **changes: str) -> httpx.Response:
        return await api.post(f"/v1/schedules/nightly/{what}", params={"queue": "reports", **changes})

    task_id = (await act("run")).json()["task_id"]
    assert (await api.get(f"/v1/tasks/{task_id}?queue=reports")).json()["task"] == "report"
    assert [(await act("pause")).json()["changed"] for _ in range(2)] == [True, False]
    assert (await act("resume")).json() == {"name": "nightly", "changed": True}
    assert (await act("set", cron="@every 60s", overlap="Allow")).json()["changed"]
    await schedules.register("code:shop", 2, [NIGHTLY])
    [changed] = (await api.get("/v1/schedules?queue=reports")).json()["schedules"]
    assert (changed["source"], changed["cron"]) == ("override:nightly", "@every 60s")
    assert changed["overlap"] == "Allow"
    following = (await api.get("/v1/schedules/nightly/next?queue=reports&count=3")).json()
    assert len({run["moment"] for run in following["next"]}) == 3
    assert following["next"][0]["at"][-6:] in {"+01:00", "+02:00"}
    assert (await act("reset")).json()["changed"]
    assert (await api.get("/v1/schedules?queue=reports")).json()["schedules"] == []  # until a worker declares it again


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        pytest.param("weekly/pause?queue=reports", 404, "has no schedule 'weekly'", id="one that is not there"),
        pytest.param("hourly/set?queue=reports&cron=often", 422, "cron expression", id="a wrong expression"),
        pytest.param("nightly/set?queue=reports&cron=@daily", 422, "change its spec.schedules", id="one of the TaskQueue"),
        pytest.param("nightly/run?queue=NO", 422, "queue name", id="a wrong queue"),
    ],
)
async def test_a_wrong_act_is_refused(api: httpx.AsyncClient, client: Client, path: str, code: int, words: str) -> None:
    await client.inspector.schedules("reports").register(TASKQUEUE, 1, [NIGHTLY])
    await client.inspector.schedules("reports").register("code:shop", 1, [Definition("hourly", cron("@hourly"), "report")])
    answer = await api.post(f"/v1/schedules/{path}")
    assert (answer.status_code, words in answer.text) == (code, True), answer.text
