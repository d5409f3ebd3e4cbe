# What the scripts of the real Kubernetes share; sourced by them. Bash.
#
# KUBE_ROOT   the cache of binaries; default: $XDG_CACHE_HOME/sluice-kube, or ~/.cache/sluice-kube
# KUBE_RUN    where a running cluster keeps keys, data, logs and pids; default: $KUBE_ROOT/run
# KUBE_PORT   the API server's port on 127.0.0.1; default: 16443
# ETCD_PORT   etcd's port on 127.0.0.1; default: 12379
# shellcheck shell=bash disable=SC2034 # the variables are for those who source this
set -euo pipefail

KUBE_ROOT=${KUBE_ROOT:-${XDG_CACHE_HOME:-${HOME:?neither KUBE_ROOT, XDG_CACHE_HOME nor HOME is set}/.cache}/sluice-kube}
KUBE_RUN=${KUBE_RUN:-$KUBE_ROOT/run}
KUBE_PORT=${KUBE_PORT:-16443}
ETCD_PORT=${ETCD_PORT:-12379}
BIN=$KUBE_ROOT/bin
DEBIAN=$KUBE_ROOT/debian # packages unpacked, not installed
PKI=$KUBE_RUN/pki

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# need TOOL FOR FIX: says which tool is missing, what for, and what to do about it.
need() { command -v "$1" >/dev/null || die "$2 needs '$1', which is not on the PATH: $3"; }

# alive NAME: whether the process that was started under this name still runs. A pid that the system gave to
# another program since is not ours: the executable must be the one that was started.
alive() {
  local pid exe
  [[ -s $KUBE_RUN/$1.pid ]] && read -r pid exe <"$KUBE_RUN/$1.pid" || return 1
  [[ -d /proc/$pid && "$(readlink "/proc/$pid/exe")" == "$exe" ]]
}

pid_of() { cut -d' ' -f1 "$KUBE_RUN/$1.pid"; }

# start NAME PROGRAM ARGUMENT…: in a session of its own, its output in NAME.log, its pid and program in NAME.pid.
start() {
  local name=$1 exe
  shift
  exe=$(readlink -f "$1")
  setsid "$@" >>"$KUBE_RUN/$name.log" 2>&1 </dev/null &
  echo "$! $exe" >"$KUBE_RUN/$name.pid"
  # For a moment it is still this shell's copy.
  until alive "$name" || [[ ! -d /proc/$! ]]; do sleep 0.01; done
}

# stop NAME [SECONDS]: asks it to end, and kills it when it has not after so long (20).
stop() {
  local tries=$((${2:-20} * 10)) pid
  if alive "$1"; then
    pid=$(pid_of "$1")
    kill "$pid" 2>/dev/null || true
    while [[ -d /proc/$pid ]] && ((tries-- > 0)); do sleep 0.1; done
    if [[ -d /proc/$pid ]]; then
      say "$1 does not end, killing it"
      kill -9 "$pid" 2>/dev/null || true
    fi
  fi
  rm -f "$KUBE_RUN/$1.pid"
}

# await NAME SECONDS COMMAND…: until the command succeeds; gives up when the process has ended or time is up.
await() {
  local name=$1 end=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    alive "$name" || { tail -n 5 "$KUBE_RUN/$name.log" >&2; die "$name has ended; all of its output: $KUBE_RUN/$name.log"; }
    ((SECONDS < end)) || { tail -n 5 "$KUBE_RUN/$name.log" >&2; die "$name is not ready in time: $KUBE_RUN/$name.log"; }
    sleep 0.1
  done
}

# as USER PATH: GETs from the API server with the user's token.
as() {
  curl -fsS --max-time 2 --cacert "$PKI/ca.crt" -H "Authorization: Bearer $(<"$PKI/$1.token")" \
    "https://127.0.0.1:$KUBE_PORT$2"
}
