"""`stoker gateway`: serve the REST API."""

from typing import Annotated

import typer

from stoker.cli.options import LogFormatOption, LogLevelOption, Namespace, RedisUrl, variable
from stoker.client.client import Client
from stoker.errors import StokerError
from stoker.redis.connect import connect
from stoker.settings import DEFAULT_GATEWAY_PORT, DEFAULT_NAMESPACE, DEFAULT_REDIS_URL


def gateway(
    host: Annotated[
        str,
        typer.Option(
            envvar=variable("HOST"),
            help="Address to listen on. No authentication: restrict who can reach it.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(envvar=variable("PORT"), min=0, max=65535, help="0 picks a free one.")
    ] = DEFAULT_GATEWAY_PORT,
    allowed_hosts: Annotated[
        str,
        typer.Option(
            envvar=variable("ALLOWED_HOSTS"),
            metavar="NAME,...",
            help="Further names in the Host header, such as an Ingress's. Loopback or Service names and pod addresses need none.",
        ),
    ] = "",
    known_queues_only: Annotated[
        bool,
        typer.Option(
            "--known-queues-only",
            envvar=variable("KNOWN_QUEUES_ONLY"),
            help="Refuse tasks for queues that no worker has served and no TaskQueue claims.",
        ),
    ] = False,
    redis_url: RedisUrl = DEFAULT_REDIS_URL,
    namespace: Namespace = DEFAULT_NAMESPACE,
    log_format: LogFormatOption = "auto",
    log_level: LogLevelOption = "info",
) -> None:
    """Serve the REST API: enqueue tasks, inspect queues, redrive dead tasks. Documented at /docs."""
    try:
        from stoker.gateway.app import create_app
        from stoker.gateway.guard import Hosts
        from stoker.gateway.serve import serve
    except ModuleNotFoundError as error:
        raise StokerError(
            f'the gateway needs packages that are not installed ({error.name}): pip install "stoker[gateway]"'
        ) from error
    from stoker.redis.reply_limit import ReplyLimit
    from stoker.telemetry import logs
    from stoker.telemetry.tracing import Tracing

    logs.configure(log_format, log_level)
    tracing = Tracing.from_environment("stoker-gateway")
    try:
        names = [name.strip() for name in allowed_hosts.split(",") if name.strip()]
        client = Client(connect(redis_url, limit=ReplyLimit.narrow()), namespace, tracing, actor="gateway")
        serve(create_app(client, hosts=Hosts.of(host, names), known_queues_only=known_queues_only), host, port)
    finally:
        tracing.close()
