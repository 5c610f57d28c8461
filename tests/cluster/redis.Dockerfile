# A Redis for the test cluster, which has no registry to pull one from.
FROM debian:trixie-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends redis-server \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir /data \
    && chown 999:999 /data
WORKDIR /data
USER 999:999
# Protected mode would refuse every other pod; the published images are built without it as well.
CMD ["redis-server", "--bind", "*", "--protected-mode", "no"]
