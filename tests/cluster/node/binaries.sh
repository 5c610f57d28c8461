# What the node is made of: Debian's packages, and the rest built from Go modules. Sourced by `node`.

PACKAGES=(runc buildah containernetworking-plugins iptables nftables iproute2 conntrack mmdebstrap procps util-linux openssl)
CONTAINERD=v2.4.2
HELM=v4.3.1

build() {
  root_only
  packages
  tools
  made node node_binaries
}

# What tests without pods need too: an API server with its etcd, kubectl and helm. Go is enough for it.
tools() { made tools tool_binaries; }

made() {
  local wanted
  wanted=$(cat "$HERE/binaries.sh" "$HERE"/kube/{go.mod,go.sum,main.go} "$HERE/pause/main.go" | sha256sum)
  [ "$(cat "$BIN/$1.made" 2> /dev/null)" = "$wanted" ] && return
  go_or_die
  mkdir -p "$BIN"
  "$2"
  echo "$wanted" > "$BIN/$1.made"
}

packages() {
  local missing=() name
  for name in "${PACKAGES[@]}"; do dpkg -s "$name" > /dev/null 2>&1 || missing+=("$name"); done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get > /dev/null || die "needs a Debian or Ubuntu (for ${missing[*]}); or set KUBECONFIG to a cluster of your own"
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
}

go_or_die() {
  local needed found
  needed=$(sed -n 's/^go //p' "$HERE/kube/go.mod")
  command -v go > /dev/null || die "needs Go $needed or newer on PATH, to build what the tests run on"
  found=$(GOTOOLCHAIN=local go env GOVERSION)
  [ "$(printf '%s\n' "$needed" "${found#go}" | sort -V | head -1)" = "$needed" ] || die "needs Go $needed or newer, and $(command -v go) is $found"
}

tool_binaries() {
  local version stamp=k8s.io/component-base/version  # unstamped, every part calls itself v0.0.0, which clients refuse
  export CGO_ENABLED=0
  echo "node: building Kubernetes into $BIN (ten minutes the first time)" >&2
  version=$(cd "$HERE/kube" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
  (cd "$HERE/kube" && go build -trimpath -o "$BIN/kube" \
    -ldflags "-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=$(cut -d. -f2 <<< "$version")" .)
  printf '#!/bin/sh\nexec kube kubectl "$@"\n' > "$BIN/kubectl"
  chmod +x "$BIN/kubectl"
  GOBIN="$BIN" go install -trimpath -ldflags "-s -w" "helm.sh/helm/v4/cmd/helm@$HELM"
}

node_binaries() {
  local command
  export CGO_ENABLED=0
  (cd "$HERE/pause" && go build -trimpath -ldflags "-s -w" -o "$BIN/pause" main.go)
  for command in containerd containerd-shim-runc-v2 ctr; do
    GOBIN="$BIN" go install -trimpath -ldflags "-s -w" -tags "no_btrfs no_devmapper no_zfs" "github.com/containerd/containerd/v2/cmd/$command@$CONTAINERD"
  done
}
