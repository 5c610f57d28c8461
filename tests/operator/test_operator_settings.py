"""Flags, variables, defaults."""

import pytest

from stoker_operator.allowed_redis import NotAllowed
from stoker_operator.health import MAX_LAG, Health
from stoker_operator.settings import OperatorSettings, read


def test_without_anything_the_defaults_hold() -> None:
    assert read([], {}) == OperatorSettings()


def test_variables_are_read_and_flags_come_first() -> None:
    environment = {
        "STOKER_REDIS_URL": "redis://cache/1",
        "STOKER_WATCH_NAMESPACES": "shop, mail,",
        "STOKER_INTERVAL": "1500ms",
        "STOKER_PORT": "8081",
        "STOKER_LOG_LEVEL": "INFO",
        "STOKER_TENANT_CREDENTIALS": "Generated",
        "STOKER_REDIS_SECRET": "stoker-redis-password",
        "STOKER_GATEWAY_SECRET": "stoker-gateway-redis",
        "POD_NAME": "stoker-operator-1",
        "POD_NAMESPACE": "stoker-system",
    }
    found = read(["--interval", "2s"], environment)
    assert found == OperatorSettings(
        redis_url="redis://cache/1",
        watch_namespaces=("shop", "mail"),
        interval=2.0,
        port=8081,
        identity="stoker-operator-1",
        tenant_credentials="Generated",
        redis_secret="stoker-redis-password",
        gateway_secret="stoker-gateway-redis",
        namespace="stoker-system",
        pod_namespace="stoker-system",
    )


def test_in_a_pod_loopback_and_the_api_server_are_not_for_tenants() -> None:
    outside, inside = (read([], environment).allowed_redis for environment in ({}, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}))
    for url in ("redis://127.0.0.1:9090", "redis://10.96.0.1:443"):
        outside.check_url(url)
        with pytest.raises(NotAllowed):
            inside.check_url(url)


@pytest.mark.parametrize("text", ["", ","])
def test_no_names_mean_all_namespaces(text: str) -> None:
    assert read([], {"STOKER_WATCH_NAMESPACES": text}).watch_namespaces == ()


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("STOKER_INTERVAL", "soon", "argument --interval: bad duration 'soon': write it like 30s"),
        ("STOKER_INTERVAL", "0s", "argument --interval: must be more than 0s"),
        ("STOKER_PORT", "99999", "argument --port: bad port '99999'"),
        ("STOKER_LOG_LEVEL", "loud", "argument --log-level: bad level 'loud'"),
        ("STOKER_SERVICE_ACCOUNT_TOKENS", "yes", "argument --service-account-tokens: bad value 'yes'"),
        ("STOKER_TENANT_CREDENTIALS", "generated", "argument --tenant-credentials: bad value 'generated'"),
        ("STOKER_ALLOWED_REDIS", "redis://a", "argument --allowed-redis: bad host 'redis://a': write name, *.name, name:port"),
        ("STOKER_LOG_FORMAT", "xml", "argument --log-format: bad format 'xml'"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(
    variable: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        read([], {variable: value})
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_alive_means_that_every_loop_comes_round() -> None:
    now, stuck_for = 100.0, 180.0
    health = Health({"autoscaler": 30, "resync": 60}, {"one reconcile": (lambda: stuck_for, 180.0)}, lambda: now)
    now += 29
    assert health.problems() == []
    health.finished("resync")
    now += 10
    assert health.problems() == ["autoscaler: last round 39.0s ago, limit 30s"]
    health.finished("autoscaler")
    stuck_for = 181.0
    assert health.problems() == ["one reconcile: 181.0s, limit 180s"]
    stuck_for = 0.0
    health.lag = MAX_LAG + 1
    assert health.problems() == ["event loop lag 11.0s, limit 10s"]
