# Images without a registry: built by buildah from the Dockerfiles as they are, imported into containerd. Sourced by `node`.

BASE=localhost/debian:trixie-slim     # what FROM debian:trixie-slim finds here
PAUSE=localhost/pause:1
export CONTAINERS_STORAGE_CONF="$CACHE/storage.conf" CONTAINERS_CONF="$CACHE/containers.conf"

# runc, since crun before 1.9 refuses a mixture of cgroup v1 and v2
storage() {
  mkdir -p "$CACHE"
  printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$CACHE/graph" "$CACHE/run" > "$CONTAINERS_STORAGE_CONF"
  printf '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n' > "$CONTAINERS_CONF"
}

built() { buildah inspect --type image "$1" > /dev/null 2>&1; }

# What debian:trixie-slim is: the smallest Debian without documentation, which keeps no package files. From the machine's own mirror.
base() {
  root_only; packages; storage; forget_old_stages
  built "$BASE" && return
  local mirror suite=${BASE##*:} container rootfs="$CACHE/base.tar"
  mirror=$({ sed -nE 's/^URIs: *//p; s/^deb (\[[^]]*\] )?([^ ]+).*/\2/p' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2> /dev/null || true; } | head -1)
  HERE="$HERE" mmdebstrap -q --variant=minbase --include=ca-certificates --aptopt='Acquire::Check-Valid-Until "false"' --keyring=/usr/share/keyrings \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --customize-hook='cp "$HERE/apt-clean.conf" "$1/etc/apt/apt.conf.d/docker-clean"' --customize-hook='rm -f "$1"/var/cache/apt/*.bin' \
    "${suite%-slim}" "$rootfs" "deb ${mirror:?no mirror in the sources of apt} ${suite%-slim} main"
  container=$(buildah from scratch)
  buildah add -q "$container" "$rootfs" / > /dev/null
  buildah config --cmd bash "$container"
  buildah commit -q --rm "$container" "$BASE" > /dev/null
  rm "$rootfs"
}

# Every change of code leaves an unnamed image of its build stage behind: a cache, until there are many.
forget_old_stages() {
  [ "$(buildah images --quiet --filter dangling=true | wc -l)" -lt 40 ] || buildah rmi --prune > /dev/null
}

# The Dockerfile as it is. This machine's certificates and pip settings are mounted while it builds, and stay out of the image.
image() {
  base
  local context=$1 tag=$2; shift 2
  local authorities=/etc/ssl/certs/ca-certificates.crt
  pip_settings "$authorities" > "$CACHE/pip.conf"
  buildah --runtime runc bud -q --layers --pull-never --network host --volume "${SSL_CERT_FILE:-$authorities}:$authorities:ro" \
    --volume "$CACHE/pip.conf:/etc/pip.conf:ro" -t "$tag" "$@" "$context"
}

# find-links and cert name files of this machine; the certificates are mounted where the image looks for them
pip_settings() {
  printf '[global]\ncert = %s\n' "$1"
  python3 -m pip config list 2> /dev/null | sed -nE "/find-links|\.cert=/d; s/^(global|install|:env:)\.([a-z-]+)='(.*)'$/\2 = \3/p"
}

load() {
  storage
  local tag=$1 archive="$STATE/image.tar"
  built "$tag" || die "no image $tag: build it with 'node image'"
  rm -f "$archive"
  buildah push -q "$tag" "docker-archive:$archive:$tag"
  ctr -a "$STATE/containerd.sock" -n k8s.io images import "$archive" > /dev/null
  rm "$archive"
}

pause_image() {
  storage
  built "$PAUSE" && return
  local container; container=$(buildah from scratch)
  buildah copy -q "$container" "$BIN/pause" /pause > /dev/null
  buildah config --entrypoint '["/pause"]' "$container"
  buildah commit -q --rm "$container" "$PAUSE" > /dev/null
}
