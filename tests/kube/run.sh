#!/usr/bin/env bash
# Runs the tests on a real Kubernetes node on this machine, and leaves nothing of it behind, however they end.
#
#   tests/kube/run.sh [--soak] [FILTER…]    FILTER: names of tests, or parts of them
#
# MINUTES   how long pods write in each test of the node; default: 2 (soak: 10)
# SEED      default: a random one, which is printed
# FAULTS    what happens to the node, out of `agent gateway api`; default: all
# RUNS      of a soak; default: 10. The seed of each is the one before it plus one; it ends at the first failure
# PROFILE   debug or release; default: debug (soak: release)
#
# Needs root on a Debian of these days that is not a node itself (/var/log/pods), and Go 1.24 for the first time.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

runs=1 profile=${PROFILE:-debug} minutes=${MINUTES:-2}
case ${1:-} in
  -h | --help) sed -n '2,/^source/{/^source/d;s/^# \{0,1\}//;p}' "$0"; exit ;;
  --soak) shift; runs=${RUNS:-10} profile=${PROFILE:-release} minutes=${MINUTES:-10} ;;
esac
[[ $EUID -eq 0 ]] || die "a node mounts and makes cgroups: run it as root"
seed=${SEED:-$RANDOM}

tests/kube/install.sh >/dev/null
flags=()
[[ $profile == debug ]] || flags=(--release)
# All of them, as the other tests have them: another selection would have its own features, and be built anew.
cargo build "${flags[@]}" --workspace --bins

# Test directories of this run alone; short, for the paths of sockets are.
export TMPDIR=/tmp/sluice-$$
mkdir -p "$TMPDIR"

# A test takes its node down itself; one that was killed cannot.
finish() {
  local status=$? directory
  for directory in "$TMPDIR"/sluice-kube-*; do
    [[ -d $directory ]] || continue
    KUBE_RUN=$directory tests/kube/node.sh down
    KUBE_RUN=$directory tests/kube/api.sh down
  done
  if [[ $status -eq 0 ]]; then
    rm -rf "$TMPDIR"
  else
    rmdir "$TMPDIR" 2>/dev/null || say "the files of what failed are kept in $TMPDIR and /var/log/sluice-witness-*"
  fi
}
trap finish EXIT
trap 'exit 130' INT TERM

for ((run = 0; run < runs; run++)); do
  say "run $((run + 1)) of $runs, SEED=$((seed + run)) MINUTES=$minutes"
  MINUTES=$minutes SEED=$((seed + run)) cargo test "${flags[@]}" -p sluice-kube-tests -- --nocapture --test-threads=1 "$@"
done
