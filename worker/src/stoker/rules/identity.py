"""The identity of a queue, and the TaskQueue that claims it.

Two queues of one name in two namespaces have no key in common. Of two TaskQueues that mean one queue, the one that claims it first
serves it: the claim is in the queue itself, so that no spelling of a Redis URL and no second cluster gets around it.
"""

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from stoker.errors import Invalid
from stoker.rules.message import check_queue

MOVED = "-moved"
"""Ends the UID in such a claim. No TaskQueue has that UID."""
Text = Annotated[str, Meta(max_length=253)]


class QueueId(NamedTuple):
    """A queue, or one partition of it. In Kubernetes `namespace` is the TaskQueue's, unless spec.redis.namespace says otherwise."""

    namespace: str
    name: str


class Holder(Struct, frozen=True):
    """The TaskQueue that claims a queue: the cluster's id, and namespace, name and UID of the resource."""

    cluster: Text
    namespace: Text
    name: Text
    uid: Text

    def encode(self) -> bytes:
        """The claim as Redis keeps it. Equal holders have equal bytes."""
        return _encoder.encode(self)

    def moved(self) -> "Holder":
        """This holder in a claim that it is about to release, because it has claimed the queue through another URL."""
        return replace(self, uid=self.uid + MOVED)

    def neighbour_of(self, other: "Holder") -> bool:
        """Whether both are of one namespace of one cluster, where each may know the other's name and look it up."""
        return (self.cluster, self.namespace) == (other.cluster, other.namespace)


UNREADABLE = Holder("", "", "", "")
"""The holder of a claim that cannot be decoded."""
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Holder)


def decode_holder(claim: bytes) -> Holder:
    """The holder of a claim as read from Redis, which any client may have written: `name` goes into a path of the API server."""
    try:
        holder = _decoder.decode(claim)
        check_queue(holder.name)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, Invalid):  # TypeError: another Redis may answer a number
        return UNREADABLE
    return holder
