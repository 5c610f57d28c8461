"""Every sample works as it stands: on a laptop and in a cluster."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from stoker.local.manifest_file import load
from tests.chart.rendering import SAMPLES
from tests.taskqueue_schema import schema, strict


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_sample_is_taken_by_both(path: Path):
    assert load(path)
    for document in yaml.safe_load_all(path.read_text()):
        jsonschema.validate(document, strict(schema()))


def test_the_demonstration_is_in_a_hurry():
    """Its promises: from 0 to 6 workers and back within seconds, and a killed worker's tasks run again soon."""
    (emails,) = load(next(path for path in SAMPLES if path.name == "emails.yaml"))
    spec = emails.spec
    assert emails.queue == "emails"
    assert (spec.worker.image, spec.worker.app) == ("stoker.dev/examples/shop:0.1.0", "shop.tasks:app")
    assert (spec.scaling.min_replicas, spec.scaling.max_replicas, spec.scaling.backlog_per_replica) == (0, 6, 100)
    assert max(spec.scaling.idle_after, spec.scaling.scale_down.stabilization, spec.lease.duration) <= 5
    assert spec.retry.max_delay <= 2


def test_the_smallest_one_says_only_what_it_must():
    (smallest,) = (yaml.safe_load(path.read_text()) for path in SAMPLES if path.name == "minimal.yaml")
    assert smallest["spec"].keys() == {"worker"}
    assert smallest["spec"]["worker"].keys() == {"image", "app"}
