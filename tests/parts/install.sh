#!/usr/bin/env bash
# Builds the real components that the tests and benchmarks run against, once, into a cache outside the tree.
#
#   tests/parts/install.sh PART…      build what is missing, print the path of each binary on standard output
#   tests/parts/install.sh --list     the parts, their versions, and whether they are installed
#
# A part is built from pinned sources by its own toolchain (Go modules, crates), or unpacked from the
# distribution's package where it belongs to what is installed. Beside the binary lies
# NAME.version; when it says the version wanted here, nothing is built. One lock per part makes two runs at
# once safe: the second waits and finds the part there.
#
# SLUICE_PARTS   the cache; default: $XDG_CACHE_HOME/sluice-parts, or ~/.cache/sluice-parts
set -euo pipefail

readonly VICTORIA_LOGS=v1.121.0 # the last VictoriaMetrics module that still holds VictoriaLogs
readonly VMAUTH=v1.130.0
readonly OTELCOL=v0.149.0
readonly CARGO_DENY=0.20.2
readonly PARTS=(victoria-logs vmauth otelcol cargo-deny journal-remote)

CACHE=${SLUICE_PARTS:-${XDG_CACHE_HOME:-${HOME:?neither SLUICE_PARTS, XDG_CACHE_HOME nor HOME is set}/.cache}/sluice-parts}
BIN=$CACHE/bin

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
die() { printf 'install.sh: %s\n' "$*" >&2; exit 1; }

# need TOOL PART FIX: says which toolchain is missing, for what, and what to do about it.
need() { command -v "$1" >/dev/null || die "$2 is built with '$1', which is not on the PATH: $3"; }

# version_of PART: what is wanted of it. Who changes how a part is built changes this, too, so that caches follow.
version_of() {
  case $1 in
    victoria-logs) echo "$VICTORIA_LOGS" ;;
    vmauth) echo "$VMAUTH" ;;
    otelcol) echo "$OTELCOL with k8sattributes" ;;
    cargo-deny) echo "$CARGO_DENY" ;;
    # Of the systemd that is installed here: they share a library.
    journal-remote) dpkg-query --show --showformat '${Version}' systemd 2>/dev/null || echo of-systemd ;;
    *) die "unknown part '$1'; known: ${PARTS[*]}" ;;
  esac
}

installed() { [[ -x $BIN/$1 && "$(cat "$BIN/$1.version" 2>/dev/null)" == "$(version_of "$1")" ]]; }

# Each build_* gets an empty directory to work in ($1) and leaves the binary at $1/NAME.

# In a module of our own: `go install MODULE@VERSION` refuses modules that carry replace directives.
build_victoria_metrics_app() { # workdir app version
  need go "$2" "install Go 1.24 or newer from go.dev/dl, or your distribution's golang package"
  (
    cd "$1"
    printf 'module local/parts\ngo 1.24\nrequire github.com/VictoriaMetrics/VictoriaMetrics %s\n' "$3" >go.mod
    GOFLAGS='-mod=mod -buildvcs=false' go build -trimpath -ldflags='-s -w' -o "$2" \
      "github.com/VictoriaMetrics/VictoriaMetrics/app/$2"
  )
}
build_victoria_logs() { build_victoria_metrics_app "$1" victoria-logs "$VICTORIA_LOGS"; }
build_vmauth() { build_victoria_metrics_app "$1" vmauth "$VMAUTH"; }

# The OpenTelemetry Collector, as a peer in benchmarks: filelog with the container operator, pods' metadata, otlp in
# and out, persistent queue. Assembled by the project's own builder.
build_otelcol() {
  need go otelcol "install Go 1.24 or newer from go.dev/dl, or your distribution's golang package"
  local core=go.opentelemetry.io/collector contrib=github.com/open-telemetry/opentelemetry-collector-contrib
  GOBIN=$1 go install "$core/cmd/builder@$OTELCOL"
  cat >"$1/manifest.yaml" <<YAML
dist: {name: otelcol, output_path: $1/out, module: local/otelcol, version: ${OTELCOL#v}}
receivers:
  - gomod: $contrib/receiver/filelogreceiver $OTELCOL
  - gomod: $core/receiver/otlpreceiver $OTELCOL
processors:
  - gomod: $contrib/processor/k8sattributesprocessor $OTELCOL
exporters:
  - gomod: $core/exporter/otlphttpexporter $OTELCOL
extensions:
  - gomod: $contrib/extension/storage/filestorage $OTELCOL
YAML
  CGO_ENABLED=0 "$1/builder" --config "$1/manifest.yaml"
  mv "$1/out/otelcol" "$1/otelcol"
}

build_cargo_deny() {
  need cargo cargo-deny "install Rust from rustup.rs"
  CARGO_TARGET_DIR=$1/target cargo install --locked --version "$CARGO_DENY" --root "$1" cargo-deny
  mv "$1/bin/cargo-deny" "$1/cargo-deny"
}

# systemd-journal-remote makes journal files out of an export stream; journalctl reads them. Nothing is
# installed: the packages are unpacked into the cache.
build_journal_remote() {
  local version home=$CACHE/journal-remote
  need journalctl journal-remote "install Debian's or Ubuntu's package systemd"
  need apt-get journal-remote "it is unpacked from the distribution's packages"
  version=$(version_of journal-remote)
  (cd "$1" && apt-get download "systemd-journal-remote=$version" libmicrohttpd12) ||
    die "journal-remote: the archive has no systemd-journal-remote $version: apt-get update, and upgrade systemd"
  rm -rf "$home"
  for package in "$1"/*.deb; do dpkg-deb --extract "$package" "$home"; done
  cat >"$1/journal-remote" <<SH
#!/bin/sh
export LD_LIBRARY_PATH="\$(dirname "\$(find '$home' -name 'libmicrohttpd.so.*' | head -n 1)")"
exec '$home/lib/systemd/systemd-journal-remote' "\$@"
SH
  chmod +x "$1/journal-remote"
}

install_part() (
  local part=$1 version started
  version=$(version_of "$part")
  if ! installed "$part"; then
    need flock "every part" "install util-linux"
    mkdir -p "$BIN" "$CACHE/lock"
    exec {lock}>"$CACHE/lock/$part"
    flock --nonblock "$lock" || { say "$part: another run is building it, waiting"; flock "$lock"; }
    if ! installed "$part"; then # the run that held the lock may have built it
      say "$part $version: building; this takes minutes, once"
      started=$SECONDS
      work=$(mktemp -d "$CACHE/build-$part.XXXXXX")
      trap 'rm -rf "$work"' EXIT
      "build_${part//-/_}" "$work" >&2
      # The version is written last and removed first: a run cut short leaves a part that counts as missing.
      rm -f "$BIN/$part.version"
      mv "$work/$part" "$BIN/$part"
      echo "$version" >"$BIN/$part.version"
      say "$part $version: installed in $((SECONDS - started)) s"
    fi
  fi
  echo "$BIN/$part"
)

list() {
  local part
  for part in "${PARTS[@]}"; do
    printf '%-14s %-10s %s\n' "$part" "$(version_of "$part")" "$(installed "$part" && echo "$BIN/$part" || echo missing)"
  done
}

case ${1:-} in
  '' | -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" ;;
  --list) list ;;
  *)
    for part in "$@"; do version_of "$part" >/dev/null; done # a misspelt name fails before anything is built
    for part in "$@"; do install_part "$part"; done
    ;;
esac
