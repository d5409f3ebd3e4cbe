#!/usr/bin/env bash
# A real API server with its etcd, on 127.0.0.1, with nothing else of a control plane.
#
#   tests/kube/api.sh up         starts what does not run yet; prints the path of an administrator's kubeconfig
#   tests/kube/api.sh restart [SECONDS]   the API server goes, and is there again after so long (0)
#   tests/kube/api.sh down       ends both and removes what they stored
#
# Beside admin.kubeconfig there are pki/ca.crt and pki/admin.token for clients that do not read one. Service
# accounts' tokens are those that the API hands out (TokenRequest). Without a controller manager nobody makes a
# `default` account or acts on owners, and a deleted namespace stays in `Terminating`.
#
# KUBE_ROOT, KUBE_RUN, KUBE_PORT, ETCD_PORT: common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Who may come in, by token: name, user, group.
readonly USERS=(
  "admin admin system:masters"
  "node system:node:node-a system:nodes"
)

# certify NAME SUBJECT EXTENSIONS: a key and a certificate by our own authority.
certify() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -subj "$2" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -days 3650 -extfile <(printf '%s\n' "$3") -out "$1.crt"
  rm "$1.csr"
}

make_keys() (
  [[ ! -e $PKI/made || ! -e $PKI/kubelet-client.crt ]] || exit 0
  need openssl "the API server's keys" "install openssl"
  umask 077
  mkdir -p "$PKI"
  cd "$PKI"
  {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -subj /CN=sluice-test \
      -days 3650 -out ca.crt
    certify apiserver /CN=kube-apiserver \
      'subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default.svc'
    certify kubelet-client /CN=kube-apiserver extendedKeyUsage=clientAuth
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out accounts.key
    openssl pkey -in accounts.key -pubout -out accounts.pub
  } 2>openssl.log || { cat openssl.log >&2; die "no keys"; }
  : >tokens.csv
  local line name user group
  for line in "${USERS[@]}"; do
    read -r name user group <<<"$line"
    openssl rand -hex 24 >"$name.token"
    echo "$(<"$name.token"),$user,$user,$group" >>tokens.csv
  done
  touch made
)

# Written at each start: the port may be another one.
write_kubeconfigs() {
  local name
  for name in admin node; do
    (
      umask 077
      cat >"$KUBE_RUN/$name.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: sluice, cluster: {server: "https://127.0.0.1:$KUBE_PORT", certificate-authority: "$PKI/ca.crt"}}]
users: [{name: $name, user: {token: "$(<"$PKI/$name.token")"}}]
contexts: [{name: sluice, context: {cluster: sluice, user: $name}}]
current-context: sluice
YAML
    )
  done
}

start_etcd() {
  local client=http://127.0.0.1:$ETCD_PORT
  start etcd "$BIN/etcd" --name sluice --data-dir "$KUBE_RUN/etcd" --listen-client-urls "$client" \
    --advertise-client-urls "$client" --listen-peer-urls http://127.0.0.1:0 --unsafe-no-fsync
  await etcd 30 curl -fsS --max-time 1 "$client/health"
}

# The admission of service accounts is off, for nobody makes the `default` accounts that it asks for.
start_apiserver() {
  local arguments=(
    --secure-port "$KUBE_PORT" --bind-address 127.0.0.1 --advertise-address 127.0.0.1
    --endpoint-reconciler-type none --service-cluster-ip-range 10.96.0.0/24
    --etcd-servers "http://127.0.0.1:$ETCD_PORT"
    --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key"
    --token-auth-file "$PKI/tokens.csv" --authorization-mode Node,RBAC --allow-privileged
    --service-account-issuer https://kubernetes.default.svc
    --service-account-key-file "$PKI/accounts.pub" --service-account-signing-key-file "$PKI/accounts.key"
    --kubelet-client-certificate "$PKI/kubelet-client.crt" --kubelet-client-key "$PKI/kubelet-client.key"
    --kubelet-preferred-address-types InternalIP
    --disable-admission-plugins ServiceAccount --profiling=false
  )
  start apiserver "$BIN/kube-apiserver" "${arguments[@]}"
  await apiserver 120 as admin /readyz
}

up() {
  need curl "waiting for the API server" "install curl"
  "${BASH_SOURCE[0]%/*}/install.sh" etcd kube-apiserver >/dev/null
  mkdir -p "$KUBE_RUN"
  make_keys
  write_kubeconfigs
  alive etcd || start_etcd
  alive apiserver || start_apiserver
  echo "$KUBE_RUN/admin.kubeconfig"
}

# It waits for watches to end, for a minute if it may.
readonly GRACE=3

case ${1:-} in
  up) up ;;
  restart)
    stop apiserver "$GRACE"
    sleep "${2:-0}"
    up
    ;;
  down)
    stop apiserver "$GRACE"
    stop etcd
    rm -rf "$KUBE_RUN/etcd"
    ;;
  *) sed -n '2,/^source/{/^source/d;s/^# \{0,1\}//;p}' "$0" ;;
esac
