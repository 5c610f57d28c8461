"""The retry policy that a run goes by."""

from stoker.rules.message import Message
from stoker.rules.retry import Retry, narrowed
from stoker.task.declaration import Declaration


def retry_policy(queue: Retry, task: Declaration | None, message: Message) -> Retry:
    """The queue's policy, overridden by the task's, that by the call's."""
    policy = narrowed(queue, task.policy.retry if task else None)
    return narrowed(policy, message.max_retries if message.retry is None else message.retry)
