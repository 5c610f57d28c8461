"""Notices who changes a Deployment back after each apply, and lets the operator apply ever more seldom. No effects."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from stoker_operator.reconcile.drift import Field, differences, setters, spelled
from stoker_operator.reconcile.plan import Apply, Live, Plan
from stoker_operator.reconcile.resources import digest
from stoker_operator.state.contest import Contest
from stoker_operator.state.problem import Problem, spec_contested
from stoker_operator.state.ref import Object, Ref

TOLERATED = 3
"""Applies within a minute that come back changed, such as edits by hand."""


class Quarrel(Struct, frozen=True):
    """What was applied last, as a digest, the Deployment's generation after that, and how often it came back changed."""

    applied: str
    generation: int
    contest: Contest = Contest()
    problem: Problem | None = None


class Quarrels:
    """Belongs to one event loop. After a restart nothing is known: the count begins again. Moments are monotonic seconds."""

    def __init__(self) -> None:
        self._quarrels: dict[Ref, Quarrel] = {}

    def judge(self, ref: Ref, present: Live, planned: Plan, now: float) -> Plan:
        """The plan, without its apply while that has to pause."""
        known = self._quarrels.get(ref)
        apply = next((action for action in planned.actions if isinstance(action, Apply)), None)
        if known is None or apply is None:
            return planned
        if digest(apply.manifest) != known.applied:
            del self._quarrels[ref]
            return planned
        if known.contest.pause(now):
            return replace(planned, actions=())
        field, managers = _changed(present.manifest, apply.manifest)
        if managers or present.generation > known.generation:
            problem = spec_contested(ref, spelled(field), managers or setters(present.manifest, ())[:1])
            self._quarrels[ref] = replace(known, contest=known.contest.changed(now, TOLERATED), problem=problem)
        return planned

    def applied(self, ref: Ref, manifest: Object, after: Live) -> None:
        """The API server took an apply."""
        known, now = self._quarrels.get(ref), digest(manifest)
        known = known if known and known.applied == now else Quarrel(now, 0)
        self._quarrels[ref] = replace(known, generation=after.generation)

    def contested(self, ref: Ref, now: float) -> Problem | None:
        """Who changes the Deployment back."""
        known = self._quarrels.get(ref)
        return known.problem if known and known.contest.left(now) else None

    def look_again(self, ref: Ref, now: float) -> float | None:
        """Seconds until the next apply may be made, or the contest is over. None without one."""
        contest = self._quarrels[ref].contest if ref in self._quarrels else Contest()
        return contest.pause(now) or contest.left(now) or None

    def forget(self, ref: Ref) -> None:
        """The TaskQueue is gone."""
        self._quarrels.pop(ref, None)


def _changed(found: Object, wanted: Object) -> tuple[Field, Sequence[str]]:
    """A field that differs, and who set it: rather one that has a setter."""
    fields = list(differences(found, wanted)) or [()]
    return next(((field, who) for field in fields if field and (who := setters(found, field))), (fields[0], ()))
