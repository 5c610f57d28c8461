"""What a failed test shows: everything a person would ask the cluster first."""

from tests.cluster.clusters import NODE, Cluster

QUESTIONS = (
    "get all,taskqueues -o wide",
    "describe taskqueues",
    "describe deployments,statefulsets",
    "describe pods",
    "get events --sort-by=.lastTimestamp",
)
LINES_OF_LOG = 60


def diagnosis(cluster: Cluster) -> str:
    """All of it as one text. A question that cannot be answered is part of the answer."""
    found = [_ask(cluster, *question.split()) for question in QUESTIONS]
    pods = _ask(cluster, "get", "pods", "-o", "jsonpath={.items[*].metadata.name}", title=False).split()
    for pod in pods:
        found.append(_ask(cluster, "logs", pod, "--all-containers", f"--tail={LINES_OF_LOG}"))
        found.append(_ask(cluster, "logs", pod, "--all-containers", f"--tail={LINES_OF_LOG}", "--previous", "--ignore-errors"))
    if cluster.own:
        found.append(cluster.run(str(NODE), "logs"))
    return "\n".join(found)


def _ask(cluster: Cluster, *question: str, title: bool = True) -> str:
    try:
        answer = cluster.kubectl(*question)
    except (AssertionError, TimeoutError) as error:
        answer = str(error)
    return f"$ kubectl {' '.join(question)}\n{answer}" if title else answer
