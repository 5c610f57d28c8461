# The parts of a running node, in the order in which they start. Sourced by `node`.

# One of the node's processes: in its namespaces, its log in $STATE/log.
start() {
  local name=$1; shift
  KUBECONFIG="$STATE/kubeconfig" nsenter --target "$(cat "$STATE/init.pid")" --net --mount --pid setsid "$@" > "$STATE/log/$name.log" 2>&1 &
}

namespaces() {
  ip netns add "$NAME"
  # What kubelet, containerd and the network plugins insist on writing to is a scratch file system of their own.
  # shellcheck disable=SC2016
  nsenter --net="/run/netns/$NAME" unshare --mount --propagation private --pid --fork --kill-child --mount-proc bash -c '
    mount --make-rshared /
    for place in /run/containerd /run/nri /var/lib/cni /var/lib/kubelet /var/log/containers /var/log/pods; do
      mkdir -p "$place" && mount -t tmpfs tmpfs "$place"
    done
    exec pause' > "$STATE/log/init.log" 2>&1 &
  echo $! > "$STATE/unshare.pid"
  until_true 10 find_init
}

# The first process of the new namespace is the child of the `unshare` that made it.
find_init() { pgrep -P "$(cat "$STATE/unshare.pid")" -x pause > "$STATE/init.pid"; }

cgroup_roots() { local root; for root in /sys/fs/cgroup /sys/fs/cgroup/*; do if [ -f "$root/cgroup.procs" ]; then echo "$root"; fi; done; }

cgroups() {
  local root
  for root in $(cgroup_roots); do mkdir -p "$root/$NAME"; done
}

remove_cgroups() {
  local root
  for root in $(cgroup_roots); do
    [ ! -d "$root/$NAME" ] || find "$root/$NAME" -depth -type d -exec rmdir {} +
  done
}

network() {
  ip -n "$NAME" link set lo up
  inside sysctl -qw net.ipv4.ip_forward=1
  inside ip link add node0 type bridge   # not every kernel has a dummy device
  inside ip addr add "$NODE_IP/24" dev node0
  inside ip link set node0 up
  inside ip route add "$SERVICES" dev node0   # service addresses need a route before NAT sees them
}

runtime() {
  cat > "$STATE/cni/10-node.conflist" <<CNI
{"cniVersion": "1.0.0", "name": "node", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "dataDir": "$STATE/ipam", "ranges": [[{"subnet": "$PODS"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
CNI
  # restrict_oom_score_adj: for machines without CAP_SYS_RESOURCE
  cat > "$STATE/containerd.toml" <<TOML
version = 3
root = '$STATE/containerd'
state = '$STATE/containerd-run'
[grpc]
  address = '$STATE/containerd.sock'
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '$PAUSE'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['/usr/lib/cni']
    conf_dir = '$STATE/cni'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
      BinaryName = '$(command -v runc || echo /usr/sbin/runc)'
TOML
  start containerd containerd --config "$STATE/containerd.toml"
  until_true 20 ctr -a "$STATE/containerd.sock" version
  pause_image
  load "$PAUSE"
}

control_plane() {
  local pki="$STATE/pki" token
  keys "$pki"
  token=$(openssl rand -hex 16)
  echo "$token,admin,admin,\"system:masters\"" > "$pki/tokens.csv"
  start etcd kube etcd --data-dir "$STATE/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync --log-level error
  start apiserver kube apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address="$NODE_IP" --cert-dir="$pki" \
    --service-cluster-ip-range="$SERVICES" --service-account-key-file="$pki/sa.pub" --service-account-signing-key-file="$pki/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local --token-auth-file="$pki/tokens.csv" \
    --authorization-mode=Node,RBAC --allow-privileged=true --kubelet-preferred-address-types=InternalIP --enable-aggregator-routing=true \
    --requestheader-client-ca-file="$pki/front-proxy.crt" --proxy-client-cert-file="$pki/front-proxy.crt" --proxy-client-key-file="$pki/front-proxy.key" \
    --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra-
  until_true 30 test -s "$pki/apiserver.crt"
  cat > "$STATE/kubeconfig" <<YAML
{apiVersion: v1, kind: Config, current-context: node, contexts: [{name: node, context: {cluster: node, user: admin}}],
 clusters: [{name: node, cluster: {server: "https://$NODE_IP:6443", insecure-skip-tls-verify: true}}], users: [{name: admin, user: {token: "$token"}}]}
YAML
  until_true 60 inside kubectl get --raw /readyz
  start controllers kube controllers --kubeconfig="$STATE/kubeconfig" --service-account-private-key-file="$pki/sa.key" \
    --root-ca-file="$pki/apiserver.crt" --leader-elect=false --use-service-account-credentials=true
  start scheduler kube scheduler --kubeconfig="$STATE/kubeconfig" --leader-elect=false
}

# Service account tokens, and the front proxy through which the API server reaches aggregated APIs.
keys() {
  openssl genrsa -out "$1/sa.key" 2048
  openssl rsa -in "$1/sa.key" -pubout -out "$1/sa.pub"
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=front-proxy -keyout "$1/front-proxy.key" -out "$1/front-proxy.crt"
} 2> /dev/null

agents() {
  cat > "$STATE/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false          # kubelet >= 1.35 refuses cgroup v1 otherwise
cgroupDriver: cgroupfs
cgroupRoot: /$NAME           # apart from any other kubelet on this machine, and removable
enforceNodeAllocatable: [pods]
containerRuntimeEndpoint: unix://$STATE/containerd.sock
podLogsDir: $STATE/pod-logs
clusterDNS: [$NODE_IP]
clusterDomain: cluster.local
resolvConf: ""
maxPods: 250
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
YAML
  start kubelet kube kubelet --config="$STATE/kubelet.yaml" --kubeconfig="$STATE/kubeconfig" --root-dir="$STATE/kubelet" \
    --cert-dir="$STATE/pki/kubelet" --hostname-override=node-1 --node-ip="$NODE_IP"
  start proxy kube proxy --kubeconfig="$STATE/kubeconfig" --proxy-mode=nftables --cluster-cidr="$PODS" --hostname-override=node-1 \
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
  start dns kube dns -conf "$HERE/Corefile" -dns.port 53
  until_true 60 inside kubectl wait --for=condition=Ready node/node-1 --timeout=1s
}
