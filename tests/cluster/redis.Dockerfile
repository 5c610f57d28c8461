# The chart's Redis for a cluster that cannot pull one: Debian's Valkey. The chart says how to start it.
FROM debian:trixie-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends valkey-server \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir /data \
    && chown 999:999 /data
WORKDIR /data
USER 999:999
CMD ["valkey-server", "--bind", "*", "--protected-mode", "no"]
