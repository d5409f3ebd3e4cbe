#!/usr/bin/env bash
# Gets the parts of a real Kubernetes, once, into a cache outside the tree; nothing is installed on the machine.
#
#   tests/kube/install.sh [PART…]     builds or unpacks what is missing, prints each part's path; default: all
#   tests/kube/install.sh --list      the parts, their versions, and whether they are there
#
# etcd, kube-apiserver, kubelet and kubectl are built from the Go module proxy: about ten minutes of CPU together,
# cold, and then a second. The others are Debian's packages, unpacked. A part is there when it says so itself, by its version.
# One lock makes two runs at once safe: the second waits and finds the parts there.
#
# KUBE_ROOT   the cache; default: $XDG_CACHE_HOME/sluice-kube, or ~/.cache/sluice-kube
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly KUBERNETES=1.33.13
readonly ETCD=3.5.35
readonly PARTS=(etcd kube-apiserver kubelet kubectl containerd runc cni busybox)

version_of() {
  case $1 in
    etcd) echo "$ETCD" ;;
    kube-apiserver | kubelet | kubectl) echo "$KUBERNETES" ;;
    containerd | runc | cni | busybox) echo debian ;;
    *) die "unknown part '$1'; known: ${PARTS[*]}" ;;
  esac
}

path_of() {
  case $1 in
    etcd | kube-apiserver | kubelet | kubectl) echo "$BIN/$1" ;;
    containerd) echo "$DEBIAN/usr/bin/containerd" ;;
    runc) echo "$DEBIAN/usr/sbin/runc" ;;
    cni) echo "$DEBIAN/usr/lib/cni/loopback" ;;
    busybox) echo "$DEBIAN/bin/busybox" ;;
  esac
}

installed() {
  local path
  path=$(path_of "$1")
  [[ -x $path ]] || return 1
  case $1 in
    etcd) [[ "$("$path" --version 2>/dev/null)" == *"etcd Version: $ETCD"* ]] ;;
    kubectl) [[ "$("$path" version --client 2>/dev/null)" == *"v$KUBERNETES"* ]] ;;
    kube-apiserver | kubelet) [[ "$("$path" --version 2>/dev/null)" == "Kubernetes v$KUBERNETES" ]] ;;
    *) [[ -e $DEBIAN/$1.done ]] ;; # written when all of the package is unpacked
  esac
}

# build NAME PACKAGE LDFLAGS: in the module that is the working directory, moved into place when it is whole.
build() {
  CGO_ENABLED=0 GOWORK=off GOFLAGS='-mod=mod -buildvcs=false' \
    nice go build -trimpath -ldflags "-s -w $3" -o "$BIN/$1.new" "$2" >&2
  mv "$BIN/$1.new" "$BIN/$1"
}

# In a module of our own, for the program is a package of etcd's server module, not a module.
make_etcd() (
  cd "$1"
  printf 'module local/etcd\n\ngo 1.23.0\n\nrequire go.etcd.io/etcd/server/v3 v%s\n' "$ETCD" >go.mod
  build etcd go.etcd.io/etcd/server/v3 ''
)

# Kubernetes' published module points at folders beside itself for its libraries, which only a checkout has. A
# module of our own says where the same release's libraries are published.
make_kubernetes() (
  cd "$1"
  local program=$2 release=v0.${KUBERNETES#1.} version=k8s.io/component-base/version source library
  source=$(GOFLAGS='' go mod download -json "k8s.io/kubernetes@v$KUBERNETES" | sed -n 's/^\t"GoMod": "\(.*\)",\?$/\1/p')
  [[ -s $source ]] || die "no go.mod of k8s.io/kubernetes v$KUBERNETES came from the module proxy"
  {
    printf 'module local/kubernetes\n\ngo 1.24.0\n\nrequire k8s.io/kubernetes v%s\n\n' "$KUBERNETES"
    sed -n 's#^\t\(k8s\.io/[a-z0-9-]*\) => \./staging/.*#\1#p' "$source" | while read -r library; do
      printf 'replace %s => %s %s\n' "$library" "$library" "$release"
    done
  } >go.mod
  build "$program" "k8s.io/kubernetes/cmd/$program" \
    "-X $version.gitVersion=v$KUBERNETES -X $version.gitMajor=1 -X $version.gitMinor=$(cut -d. -f2 <<<"$KUBERNETES")"
)

# Unpacked beside each other: a package that is installed would start its service.
unpack() ( # PART PACKAGE
  cd "$1"
  apt-get download "$3" >&2 || { say "the lists of packages are older than the packages"; apt-get update >&2 && apt-get download "$3" >&2; }
  dpkg -x ./"$3"_*.deb "$DEBIAN"
  touch "$DEBIAN/$2.done"
)

make_part() { # workdir part
  case $2 in
    etcd | kube-apiserver | kubelet | kubectl)
      need go "$2" "install Go 1.24 or newer from go.dev/dl, or your distribution's golang package"
      if [[ $2 == etcd ]]; then make_etcd "$1"; else make_kubernetes "$1" "$2"; fi
      ;;
    *)
      need apt-get "$2" "use a Debian of these days, or a container of it that may mount"
      case $2 in
        cni) unpack "$1" cni containernetworking-plugins ;;
        busybox) unpack "$1" busybox busybox-static ;;
        *) unpack "$1" "$2" "$2" ;;
      esac
      ;;
  esac
}

install_part() (
  local part=$1 started=$SECONDS work lock
  if ! installed "$part"; then
    need flock "$part" "install util-linux"
    mkdir -p "$BIN" "$DEBIAN"
    exec {lock}>"$KUBE_ROOT/install.lock"
    flock --nonblock "$lock" || { say "$part: another run is at it, waiting"; flock "$lock"; }
    if ! installed "$part"; then # the run that held the lock may have made it
      say "$part $(version_of "$part"): missing; the Go programs take minutes, once"
      work=$(mktemp -d "$KUBE_ROOT/work.XXXXXX")
      trap 'rm -rf "$work"' EXIT
      make_part "$work" "$part"
      installed "$part" || die "$part was made, but is not what was wanted: $(path_of "$part")"
      say "$part: there after $((SECONDS - started)) s"
    fi
  fi
  path_of "$part"
)

case ${1:-} in
  -h | --help) sed -n '2,/^source/{/^source/d;s/^# \{0,1\}//;p}' "$0" ;;
  --list)
    for part in "${PARTS[@]}"; do
      printf '%-15s %-8s %s\n' "$part" "$(version_of "$part")" "$(installed "$part" && path_of "$part" || echo missing)"
    done
    ;;
  *)
    [[ $# -gt 0 ]] || set -- "${PARTS[@]}"
    for part in "$@"; do version_of "$part" >/dev/null; done # a misspelt name fails before anything is made
    for part in "$@"; do install_part "$part"; done
    ;;
esac
