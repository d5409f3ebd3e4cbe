#!/usr/bin/env bash
# A real node over the API server of api.sh: containerd, runc and the kubelet. Its pods' logs are in this machine's
# /var/log/pods, so there is one node at a time (the second waits), and none on a machine that is one already. Needs root.
#
#   tests/kube/node.sh up [ARCHIVE…]        imports these images, too, and waits until the node is ready
#   tests/kube/node.sh ctr ARGUMENT…        containerd's client, in the kubelet's namespace
#   tests/kube/node.sh down                 ends everything, unmounts, removes cgroups, pods' logs and stored state
#
# Nothing schedules: pods name their node, `node-a`. Pods use `hostNetwork: true`; there is no pod network.
#
# LOG_MAX_SIZE    the kubelet rotates a log above this size; default: 1Mi
# LOG_MAX_FILES   and keeps so many files of a container; default: 5
# LOG_INTERVAL    how often it looks; default: 3s
# NODE_WAIT       seconds to wait for another node's end; default: 600
# KUBE_ROOT, KUBE_RUN, KUBE_PORT: common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly NODE=node-a
readonly HERE=${BASH_SOURCE[0]%/*}
readonly LOGS=(/var/log/pods /var/log/containers)
readonly LOCK=/run/lock/sluice-kube-node
readonly SOCKET=$KUBE_RUN/containerd/run/containerd.sock
readonly KUBELET=$KUBE_RUN/kubelet
readonly HEALTH=127.0.0.1:10248
# The kubelet takes none of 127.0.0.0/8 for the node's address. This one is from a range that nobody routes (RFC
# 2544), on the loopback interface.
readonly ADDRESS=198.18.0.1
export PATH=$DEBIAN/usr/bin:$DEBIAN/usr/sbin:$PATH

ctr() { command ctr --address "$SOCKET" --namespace k8s.io "$@"; }

# The file says whose node this machine is. It is read and written under its lock.
take_lock() {
  exec 9>>"$LOCK"
  flock 9
  local other said='' end=$((SECONDS + ${NODE_WAIT:-600}))
  while other=$(<"$LOCK") && [[ -n $other ]] && (KUBE_RUN=$other && alive containerd); do
    ((SECONDS < end)) || die "another node runs on this machine: $other"
    [[ $said == "$other" ]] || say "another node runs on this machine, waiting for its end: $other"
    said=$other
    flock --unlock 9
    sleep 5
    flock 9
  done
  if [[ -n $other && -d $other ]]; then
    say "the node at $other was not brought down, cleaning up after it"
    KUBE_RUN=$other "$0" clean 9>&-
  fi
  local directory
  for directory in "${LOGS[@]}"; do
    [[ ! -e $directory || -z "$(ls -A "$directory")" ]] || die "$directory has somebody else's logs: is this machine a node?"
  done
  echo "$KUBE_RUN" >"$LOCK"
}

# The kubelet only says that it is ready when there is a network for pods; none is ever asked to join this one.
configure_containerd() {
  mkdir -p "$KUBE_RUN/containerd/"{root,run,cni}
  echo '{"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "loopback"}]}' >"$KUBE_RUN/containerd/cni/10-none.conflist"
  cat >"$KUBE_RUN/containerd/config.toml" <<TOML
version = 2
root = "$KUBE_RUN/containerd/root"
state = "$KUBE_RUN/containerd/run"
disabled_plugins = ["io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
grpc.address = "$SOCKET"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/sluice-sandbox:1"
stream_server_address = "127.0.0.1"
disable_apparmor = true
restrict_oom_score_adj = true
cni = { bin_dir = "$DEBIAN/usr/lib/cni", conf_dir = "$KUBE_RUN/containerd/cni" }
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "${SNAPSHOTTER:-overlayfs}"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
options = { SystemdCgroup = false, BinaryName = "$DEBIAN/usr/sbin/runc" }
TOML
}

# Crash loops are fast (a feature gate shortens their back-off), nothing is evicted, nothing is left to the system.
configure_kubelet() {
  mkdir -p "$KUBELET"
  cat >"$KUBELET/config.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $ADDRESS
port: 10250
healthzBindAddress: ${HEALTH%:*}
healthzPort: ${HEALTH#*:}
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix://$SOCKET
containerLogMaxSize: ${LOG_MAX_SIZE:-1Mi}
containerLogMaxFiles: ${LOG_MAX_FILES:-5}
containerLogMonitorInterval: ${LOG_INTERVAL:-3s}
featureGates: {KubeletCrashLoopBackOffMax: true}
crashLoopBackOff: {maxContainerRestartPeriod: 2s}
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
oomScoreAdj: 0
maxOpenFiles: 20000
makeIPTablesUtilChains: false
localStorageCapacityIsolation: false
evictionHard: {memory.available: 50Mi}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
syncFrequency: 2s
resolvConf: ""
volumePluginDir: $KUBELET/plugins
YAML
}

start_containerd() {
  configure_containerd
  start containerd "$DEBIAN/usr/bin/containerd" --config "$KUBE_RUN/containerd/config.toml" 9>&-
  await containerd 30 ctr version
  local image
  "$HERE/image.sh" "$KUBE_RUN/sandbox.tar" localhost/sluice-sandbox:1
  for image in "$KUBE_RUN/sandbox.tar" "$@"; do ctr images import "$image" >/dev/null; done
}

start_kubelet() {
  ip address replace "$ADDRESS/32" dev lo
  configure_kubelet
  start kubelet "$BIN/kubelet" --config "$KUBELET/config.yaml" --kubeconfig "$KUBE_RUN/node.kubeconfig" \
    --root-dir "$KUBELET" --cert-dir "$KUBELET/pki" --hostname-override "$NODE" --node-ip "$ADDRESS" 9>&-
  await kubelet 60 curl -fsS --max-time 1 "http://$HEALTH/healthz"
  await kubelet 60 is_ready
}

# The condition's type comes last in each of them.
is_ready() {
  as admin "/api/v1/nodes/$NODE" | tr -d ' \n' | grep -q '"status":"True",[^}]*"type":"Ready"\|"type":"Ready","status":"True"'
}

up() {
  [[ $EUID -eq 0 ]] || die "a node mounts and makes cgroups: run it as root"
  need ip "the node's address" "install iproute2"
  need flock "one node at a time" "install util-linux"
  "$HERE/install.sh" kubelet containerd runc cni busybox >/dev/null
  if ! alive containerd; then
    take_lock
    start_containerd "$@"
    exec 9>&-
  fi
  alive kubelet || start_kubelet
}

# What containers run is asked of containerd while it lives, so that it ends them and not only their shims.
end_containers() {
  alive containerd || return 0
  local task
  for task in $(ctr tasks ls --quiet); do ctr tasks kill --signal 9 "$task" 2>/dev/null || true; done
  for task in $(ctr tasks ls --quiet); do ctr tasks delete --force "$task" >/dev/null 2>&1 || true; done
}

# Of a node that ended without us the containers still run. Their shims say whose they are: they name the socket of
# the containerd that started them.
end_orphans() {
  local process child
  for process in /proc/[0-9]*; do
    tr '\0' ' ' 2>/dev/null <"$process/cmdline" | grep -q "^[^ ]*containerd-shim[^ ]* .*-address $SOCKET " || continue
    for child in $(cat "$process"/task/*/children 2>/dev/null); do kill -9 "$child" 2>/dev/null || true; done
    kill -9 "${process#/proc/}" 2>/dev/null || true
  done
}

clean() {
  local point
  { grep -F " $KUBE_RUN/" /proc/mounts || true; } | cut -d' ' -f2 | sort --reverse | while read -r point; do
    umount --lazy "$point" || true
  done
  rm -rf --one-file-system "$KUBE_RUN/containerd" "$KUBELET" "$KUBE_RUN/sandbox.tar" "${LOGS[@]}"
  ip address delete "$ADDRESS/32" dev lo 2>/dev/null || true
  # Only empty ones can go.
  find /sys/fs/cgroup -depth -type d \( -path '*/kubepods/*' -o -name kubepods -o -path '*/k8s.io/*' -o -name k8s.io \) \
    -exec rmdir {} + 2>/dev/null || true
  : >"$LOCK"
}

down() {
  # Only who brought a node up takes it down.
  [[ "$(cat "$LOCK" 2>/dev/null)" == "$KUBE_RUN" ]] || return 0
  stop kubelet
  end_containers
  stop containerd
  end_orphans
  clean
}

case ${1:-} in
  up) shift; up "$@" ;;
  ctr) shift; ctr "$@" ;;
  clean) stop kubelet; end_orphans; clean ;;
  down) down ;;
  *) sed -n '2,/^source/{/^source/d;s/^# \{0,1\}//;p}' "$0" ;;
esac
