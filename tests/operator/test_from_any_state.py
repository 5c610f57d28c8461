"""From any state of the cluster the plan comes to rest at what the TaskQueue asks for, also when passes are cut short.

The law of Anvil (Sun et al., OSDI 2024): eventually the observed state is the desired one, and from then on it stays so.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from stoker_operator.reconcile import plan as planning
from stoker_operator.reconcile.drift import drifted
from stoker_operator.reconcile.plan import Observed, live, plan
from stoker_operator.reconcile.resources import Connection, created, deployment, paused
from stoker_operator.state.findings import Trial
from stoker_operator.state.problem import Problem, Reason
from stoker_operator.state.ref import FIELD_MANAGER, Object
from tests.operator.apiserver_model import Server, entry, fields_of, made
from tests.operator.observed import OWNER, task_queue

ROUNDS = 4
"""Undisturbed passes within which it must be at rest."""
DELETED = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
NO_OWNER: dict[str, Any] = {"ownerReferences": []}
ANOTHER = {"ownerReferences": [{"kind": "Rollout", "name": "theirs", "uid": "uid-9", "controller": True}]}
BEFORE = {"ownerReferences": [{"kind": "TaskQueue", "name": OWNER.ref.name, "uid": "uid-before", "controller": True}]}

variables = st.dictionaries(st.sampled_from("ABC"), st.sampled_from("12")).map(
    lambda found: [{"name": name, "value": value} for name, value in found.items()]
)
images = st.sampled_from(["shop:1", "shop:2"])
specs = st.fixed_dictionaries(
    {"worker": st.fixed_dictionaries({"image": images, "app": st.just("shop:app"), "env": variables})},
    optional={
        "replicas": st.integers(0, 3),
        "suspend": st.booleans(),
        "scaling": st.fixed_dictionaries({"minReplicas": st.integers(0, 3)}),
    },
)
trials = st.one_of(
    st.builds(lambda pods, failing: Trial(pods, min(pods, failing)), st.integers(0, 4), st.integers(0, 4)),
    st.builds(lambda pods: Trial(pods, proven=True), st.integers(1, 4)),
)
problems = st.sampled_from([None, None, None, Problem(Reason.QUEUE_TAKEN, "taken")])
away = st.sampled_from([None, None, Problem(Reason.REDIS_UNREACHABLE, "away")])
connections = st.builds(lambda digest: Connection("redis://r", digest), st.sampled_from(["", "one", "two"]))
labels = st.dictionaries(st.sampled_from(["team", "cost"]), st.sampled_from(["a", "b"]))


@st.composite
def wishes(draw: Any) -> Observed:
    """Anything that a TaskQueue may ask for, without what exists."""
    return Observed(
        task_queue(**draw(specs)),
        OWNER,
        draw(connections),
        applied=draw(st.sampled_from(["", '{"generation": 1}'])),
        taken=draw(problems),
        unclaimed=draw(away),
        installation=draw(st.sampled_from(["", "stoker/operator"])),
        inherited=draw(labels),
        trial=draw(trials),
        may_pause=draw(st.booleans()),
    )


def wanted(wish: Observed) -> Object:
    return deployment(
        wish.queue, OWNER, wish.connection, applied=wish.applied, installation=wish.installation, inherited=wish.inherited
    )


def pod(found: Object) -> Any:
    return found["spec"]["template"]["spec"]


EDITS: list[Callable[[Object], object]] = [
    lambda found: pod(found)["containers"][0].update(image="by-hand:1"),
    lambda found: pod(found)["containers"][0]["env"].pop(0),
    lambda found: pod(found)["containers"].append({"name": "sidecar", "image": "mesh:1"}),
    lambda found: pod(found).pop("volumes", None),
    lambda found: found["metadata"].update(annotations={}),
    lambda found: found["metadata"]["annotations"].pop("stoker.dev/template-hash", None),
    lambda found: found["metadata"]["annotations"].pop("stoker.dev/installation", None),
    lambda found: found["metadata"]["labels"].update(theirs="yes"),
    lambda found: found["spec"].update(paused=True),
    lambda found: found["spec"].update(strategy={"type": "Recreate"}),
    lambda found: found["metadata"].update(managedFields=[]),
    lambda found: found["metadata"].update(managedFields=[entry("Update", fields_of({"spec": {"paused": True}}), "kubectl")]),
]
"""What others, and older operators, leave behind."""


@st.composite
def clusters(draw: Any) -> Object | None:
    """Any Deployment that may have the name."""
    if draw(st.integers(0, 9)) == 0:
        return None
    before = wanted(draw(wishes()))
    if draw(st.booleans()):
        before = paused(before)
    half_made = draw(st.booleans())
    found = made(created(before, draw(st.integers(0, 3)))) if half_made else made(before, "Apply")
    for edit in draw(st.lists(st.sampled_from(EDITS), max_size=4)):
        edit(found)
    found["metadata"] |= draw(st.sampled_from([{}, {}, {}, {}, NO_OWNER, ANOTHER, BEFORE, DELETED, {**BEFORE, **DELETED}]))
    if draw(st.integers(0, 9)) == 0:
        found["spec"]["selector"] = {"matchLabels": {"app": "theirs"}}
    pods = draw(st.integers(0, 5))
    return {**found, "status": {"replicas": pods, "updatedReplicas": draw(st.integers(0, pods))}}


def planned(wish: Observed, server: Server) -> Any:
    return planning.plan(replace(wish, live=live(copy.deepcopy(server.found)) if server.found else None))


def comes_to_rest(wish: Observed, found: Object | None, cuts: list[int]) -> None:
    """The law. `cuts`: after how many requests each of the first passes is cut short."""
    server = Server(copy.deepcopy(found))
    for cut in cuts:
        for action in planned(wish, server).actions[:cut]:
            server.perform(action)
    for _ in range(ROUNDS):
        server.collect()
        for action in planned(wish, server).actions:
            server.perform(action)
    at_rest, writes = copy.deepcopy(server.found), server.writes
    for _ in range(3):
        assert not planned(wish, server).actions, "it does not come to rest"
    assert (server.found, server.writes) == (at_rest, writes)
    _is_as_asked_for(wish, found, server)


def _is_as_asked_for(wish: Observed, before: Object | None, server: Server) -> None:
    kept = before is not None and "deletionTimestamp" not in before["metadata"]
    if wish.taken or wish.queue.spec.suspend or (wish.unclaimed and not kept):
        assert server.found == (before if kept else None), "hands off"
        return
    if kept and before is not None:
        present = live(before)
        if not present.belongs_to(OWNER) and not present.orphan_of(OWNER):
            assert server.found == before, "a stranger's is left alone"
            return
    assert server.found is not None, "the Deployment exists"
    assert live(server.found).belongs_to(OWNER)
    manifest = wanted(wish)
    assert not drifted(server.found, paused(manifest) if server.found["spec"].get("paused") else manifest)
    if server.found["spec"].get("paused"):
        assert wish.may_pause
        assert live(server.found).old_pods
    ours = {each["name"] for each in manifest["spec"]["template"]["spec"]["containers"][0]["env"]}
    [worker] = [each for each in server.found["spec"]["template"]["spec"]["containers"] if each["name"] == "worker"]
    names = {each["name"] for each in worker["env"]}
    assert names >= ours
    if before is None or {each["manager"] for each in before["metadata"]["managedFields"]} == {FIELD_MANAGER}:
        assert names == ours, "a variable that the TaskQueue has no longer is gone"


cases = given(wishes(), clusters(), st.lists(st.integers(0, 2), max_size=3))


@cases
@settings(max_examples=100, deadline=None)
def test_from_any_state_it_comes_to_rest_as_asked_for(wish: Observed, found: Object | None, cuts: list[int]) -> None:
    comes_to_rest(wish, found, cuts)


@pytest.mark.nightly
@cases
@settings(max_examples=5000, deadline=None)
def test_from_any_state_at_length(wish: Observed, found: Object | None, cuts: list[int]) -> None:
    comes_to_rest(wish, found, cuts)


QUICK = settings(phases=[Phase.generate], database=None, max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
MISTAKES: dict[str, tuple[str, Any]] = {
    "it applies although nothing differs": ("drifted", lambda *_: True),
    "it never sees a difference": ("drifted", lambda *_: False),
    "it hands over without end": ("handed_over", lambda found: found["metadata"].get("managedFields") or []),
    "it leaves to the creation what the creation owns": ("handed_over", lambda _: None),
    "it forgets that it has paused": ("held", lambda trial, *, old_pods, paused: not paused and old_pods > 0),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_law_catches_a_planted_mistake(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, wrong = MISTAKES[mistake]
    monkeypatch.setattr(planning, name, wrong)
    with pytest.raises(AssertionError):
        QUICK(cases(comes_to_rest))()


def test_a_plan_that_takes_a_strangers_deployment_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(observed: Observed) -> Any:
        present = observed.live
        if present is None:
            return plan(observed)
        manifest = {**present.manifest, "metadata": {**present.manifest["metadata"], **wanted(observed)["metadata"]}}
        return plan(replace(observed, live=live(manifest)))

    monkeypatch.setattr(planning, "plan", careless)
    with pytest.raises(AssertionError):
        QUICK(cases(comes_to_rest))()
