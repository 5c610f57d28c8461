"""Every value is described, and a value that would do nothing or break something is refused with its name."""

import json
from collections.abc import Iterator

import jsonschema
import pytest
import yaml

from tests.chart.rendering import CHART, Object, refusal

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def paths(values: Object, schema: Object, prefix: str = "") -> Iterator[tuple[str, Object, Object]]:
    """Every group of values with its schema, as far as the schema knows names."""
    yield prefix, values, schema
    for name, child in schema.get("properties", {}).items():
        if "properties" in child:
            yield from paths(values[name], child, f"{prefix}{name}.")


def test_the_defaults_are_valid():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(VALUES, SCHEMA)


def test_values_and_schema_name_the_same():
    for prefix, values, schema in paths(VALUES, SCHEMA):
        helms_own = {"global"} if not prefix else set()
        assert schema["properties"].keys() - helms_own == values.keys(), prefix
        assert schema["additionalProperties"] is False, prefix


@pytest.mark.parametrize(
    ("values", "named"),
    [
        pytest.param({"gatway": {"enabled": False}}, "gatway", id="a misspelled part"),
        pytest.param({"redis": {"persistance": {}}}, "persistance", id="a misspelled value"),
        pytest.param({"operator": {"replicas": 0}}, "/operator/replicas", id="no operator"),
        pytest.param({"operator": {"image": ""}}, "/operator/image", id="no image"),
        pytest.param({"operator": {"image": "a b"}}, "/operator/image", id="an image with a blank"),
        pytest.param({"operator": {"interval": "1"}}, "/operator/interval", id="an interval without a unit"),
        pytest.param({"operator": {"interval": "0s"}}, "/operator/interval", id="an interval of no time"),
        pytest.param({"gateway": {"service": {"port": 70000}}}, "/gateway/service/port", id="a port too high"),
        pytest.param({"gateway": {"enabled": "yes"}}, "/gateway/enabled", id="yes is not true"),
        pytest.param({"watchNamespaces": "shop"}, "/watchNamespaces", id="one namespace as text"),
        pytest.param({"watchNamespaces": ["Shop"]}, "/watchNamespaces/0", id="a namespace that cannot exist"),
        pytest.param({"redis": {"enabled": False, "url": "localhost:6379"}}, "/redis/url", id="a URL without a scheme"),
        pytest.param({"tenants": {"credentials": "generated"}}, "/tenants/credentials", id="an unknown kind of credentials"),
        pytest.param({"podSecurity": {"userIds": "fixed"}}, "/podSecurity/userIds", id="unknown user ids"),
        pytest.param({"log": {"level": "loud"}}, "/log/level", id="an unknown level"),
    ],
)
def test_a_bad_value_is_refused_by_name(values: Object, named: str):
    message = refusal(values)
    assert named in message
    assert "values don't meet the specifications of the schema" in message
