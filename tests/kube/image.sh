#!/usr/bin/env bash
# Packs programs of this machine into an image archive that containerd imports: no registry, no Docker.
#
#   tests/kube/image.sh ARCHIVE NAME PROGRAM…
#
# The image has busybox with its commands in /bin, and the programs in /bin with the libraries that they are linked
# to: what runs here runs there. Its entry point sleeps, so that it serves as a pod's sandbox, too. The same
# programs give the same bytes.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# -ge 2 ]] || { sed -n '2,/^source/{/^source/d;s/^# \{0,1\}//;p}' "$0"; exit 2; }
archive=$(realpath "$1") name=$2
shift 2
busybox=$("${BASH_SOURCE[0]%/*}/install.sh" busybox)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,dev,etc,proc,sys,tmp,var}
chmod 1777 "$root/tmp"
echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
cp "$busybox" "$root/bin/busybox"
for command in $("$busybox" --list); do
  [[ $command == busybox ]] || ln -s busybox "$root/bin/$command"
done
for program in "$@"; do
  cp -L "$program" "$root/bin/"
  strip --strip-debug "$root/bin/${program##*/}" 2>/dev/null || true # smaller; as good without
  # ldd gives `name => /path (…)` and, for the loader, `/path (…)`.
  { ldd "$program" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root${library%/*}"
    cp -L "$library" "$root$library"
  done
done

pack() { tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=ustar -cf "$1" -C "$2" .; }
pack "$work/layer.tar" "$root"
layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
mkdir "$work/image"
mv "$work/layer.tar" "$work/image/$layer.tar"
config="{\"architecture\":\"$(dpkg --print-architecture)\",\"os\":\"linux\",\"config\":{\"Env\":[\"PATH=/bin\"],\
\"Entrypoint\":[\"/bin/sleep\",\"2147483647\"]},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:$layer\"]}}"
id=$(printf %s "$config" | sha256sum | cut -d' ' -f1)
printf %s "$config" >"$work/image/$id.json"
printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["%s.tar"]}]' "$id" "$name" "$layer" >"$work/image/manifest.json"
# Without the `./` that `tar .` puts before names.
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=ustar -cf "$archive" -C "$work/image" \
  manifest.json "$id.json" "$layer.tar"
