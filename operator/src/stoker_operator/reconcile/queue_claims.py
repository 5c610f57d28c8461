"""Which TaskQueue serves a queue: claims it in Redis for a pass, and releases it when the TaskQueue is deleted."""

from msgspec.structs import replace

from stoker.errors import NotFound
from stoker.rules.identity import Holder
from stoker_operator.kube import Kube
from stoker_operator.reconcile.claims import Claim, Claims
from stoker_operator.reconcile.plan import Observed
from stoker_operator.state.findings import RedisQueue
from stoker_operator.state.managed_queue import ManagedQueue
from stoker_operator.state.problem import Problem, queue_taken
from stoker_operator.state.ref import Owner, Ref


class QueueClaims:
    """Belongs to one event loop. `cluster` is the cluster's id in claims. Methods raise what Kube raises."""

    def __init__(self, kube: Kube, claims: Claims, cluster: str) -> None:
        self.cluster = cluster
        self._kube = kube
        self.in_redis = claims
        self._claimed: dict[Ref, Claim] = {}  # the last claim of each TaskQueue; after a restart: once it is claimed again

    def holder(self, owner: Owner) -> Holder:
        """A TaskQueue, as it claims queues."""
        return Holder(self.cluster, owner.ref.namespace, owner.ref.name, owner.uid)

    async def claim(self, observed: Observed, source: RedisQueue) -> Observed:
        """Claim the queue, from a TaskQueue of this namespace that is gone too. Returns what was observed, and why it could not."""
        own = self.holder(observed.owner)
        held = await self.in_redis.claim(source.url, source.id, own)
        if isinstance(held, Holder) and held != own and await self._gone(held, own):
            held = await self.in_redis.claim(source.url, source.id, own, instead_of=held)
        if isinstance(held, Problem):
            return replace(observed, unclaimed=held)
        if held != own:
            return replace(observed, taken=queue_taken(source.id, held, own))
        self._claimed[observed.owner.ref] = Claim(source.url, source.id, own)
        return observed

    async def release(self, ref: Ref, queue: ManagedQueue | None) -> None:
        """Release the claim of a deleted TaskQueue. Where Redis does not answer, the next one takes it over."""
        if (claimed := self._claimed.pop(ref, None)) is not None:
            await self.in_redis.release(*claimed)
        elif queue is not None and queue.findings.manifest is not None and queue.findings.redis_url:
            source = RedisQueue(queue.findings.redis_url, queue.findings.manifest)
            await self.in_redis.release(source.url, source.id, self.holder(Owner(ref, queue.findings.uid)))

    async def _gone(self, held: Holder, own: Holder) -> bool:
        """Whether the holder was deleted while the operator or Redis was away. Of another namespace or cluster: unknown, so no."""
        if not held.neighbour_of(own):
            return False
        try:
            found = await self._kube.task_queue(Ref(held.namespace, held.name))
        except NotFound:
            return True
        return bool(found["metadata"]["uid"] != held.uid)
