#!/usr/bin/env bash
# The main job on this machine, in the foreground, without any server: a gateway with the embedded journal
# that delivers to files, and an agent over this machine's own pods' logs if there are any, else over its
# host logs and a small writer of container logs. Ends with the balance on Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${PROFILE:-release}
dir=${SLUICE_RUN_DIR:-$PWD/target/run}
seconds=${SECONDS_TO_RUN:-0} # 0: until Ctrl-C
push=${PUSH_PORT:-7070} gateway_admin=${GATEWAY_ADMIN_PORT:-7071} agent_admin=${AGENT_ADMIN_PORT:-2020}

say() { printf '%s\n' "$*"; }
say "building (the first time takes some minutes) …"
cargo build --quiet $([ "$profile" = release ] && echo --release) -p sluice-agent -p sluice-gateway -p sluice-harness
bin=target/$profile
mkdir -p "$dir"/{logs,pods}

pods=/var/log/pods
writer=''
host_files=''
if ! compgen -G '/var/log/pods/*/*/*.log' >/dev/null; then
  pods=$dir/pods
  for file in /var/log/messages /var/log/syslog /var/log/dmesg /var/log/secure /var/log/auth.log /var/log/dpkg.log; do
    [ -r "$file" ] && host_files+="  - {path: $file}"$'\n'
  done
  writer=yes
fi

cat >"$dir/gateway.yaml" <<Y
push: {address: "127.0.0.1:$push"}
admin: 127.0.0.1:$gateway_admin
journal: {directory: $dir/journal, max_bytes: 1GiB}
destinations:
  - name: files
    file: {directory: $dir/delivered}
policy:
  identities: [{name: this-machine, loopback: true}]
  tenants: {default: main}
  default_destinations: [files]
Y
cat >"$dir/agent.yaml" <<Y
cluster: local
environment: trial
state_directory: $dir/state
pods: $pods
gateway: {urls: ["http://127.0.0.1:$push"]}
admin: 127.0.0.1:$agent_admin
${host_files:+host:
$host_files}
Y
"$bin/sluice-gateway" check "$dir/gateway.yaml" >/dev/null
"$bin/sluice-agent" check "$dir/agent.yaml" >/dev/null

# Each in a session of its own, so that Ctrl-C reaches this script first and they end in order.
start() { setsid "$@" 2>>"$dir/logs/$(basename "$1").log" >/dev/null & }
metric() { # URL NAME [label="value"]: the sum of the samples
  curl -sf "$1/metrics" | awk -v name="$2" -v label="${3:-}" \
    'index($1, name) == 1 && substr($1, length(name) + 1, 1) ~ /[{ ]?/ && (label == "" || index($1, label)) { sum += $2 } END { printf "%d", sum }'
}
ready() { # PID URL NAME
  for _ in $(seq 200); do
    curl -sf "$2/readyz" >/dev/null && return
    kill -0 "$1" 2>/dev/null || break
    sleep 0.05
  done
  say "$3 did not start; its log ends:"; tail -n 5 "$dir/logs/$3.log"; exit 1
}
stop() { [ -n "${1:-}" ] && kill -TERM "$1" 2>/dev/null && { wait "$1" 2>/dev/null || true; }; return 0; }
gateway_url=http://127.0.0.1:$gateway_admin agent_url=http://127.0.0.1:$agent_admin
gateway='' agent='' writing='' over=''
trap 'over=yes' INT TERM
trap 'stop "$writing"; stop "$agent"; stop "$gateway"' EXIT

start "$bin/sluice-gateway" run --config "$dir/gateway.yaml"; gateway=$!
ready "$gateway" "$gateway_url" sluice-gateway
start "$bin/sluice-agent" run --config "$dir/agent.yaml"; agent=$!
ready "$agent" "$agent_url" sluice-agent
if [ -n "$writer" ]; then
  start "$bin/sluice-verify" write --root "$pods" --manifest "$dir/manifest.json" --namespaces shop,bank --containers 4 \
    --rate 200 --duration 24h --json 0.5 --partial 0.02 --stderr 0.1 --rotate-every 30s --keep 4
  writing=$!
  say "no pods' logs on this machine: a small writer makes some in $pods"
fi
say "delivered logs lie in  $dir/delivered/<tenant>/<category>/*.jsonl"
say "metrics                $agent_url/metrics  $gateway_url/metrics"
say "programs' own logs     $dir/logs"
say "Ctrl-C ends it."
began=$SECONDS
while [ -z "$over" ]; do
  printf '\r\033[K%4ss  read %s  stored in the journal %s  delivered %s' "$((SECONDS - began))" \
    "$(metric "$agent_url" sluice_agent_read_lines_total)" \
    "$(metric "$gateway_url" sluice_gateway_receive_accepted_lines_total)" \
    "$(metric "$gateway_url" sluice_gateway_deliver_records_total 'outcome="delivered"')" || true
  [ "$seconds" -gt 0 ] && [ $((SECONDS - began)) -ge "$seconds" ] && break
  sleep 1 & wait $! || true
done
printf '\n'
say "stopping …"
stop "$writing"; writing=''
# The last second's lines are read before the agent is asked to stop.
sleep 0.5
stop "$agent"; agent=''
balance=$(grep -a 'agent stopped' "$dir/logs/sluice-agent.log" | tail -n 1 | sed -E 's/\x1b\[[0-9;]*m//g')
read_lines=$(sed -nE 's/.*read=([0-9]+).*/\1/p' <<<"$balance") held=$(sed -nE 's/.*held=([0-9]+).*/\1/p' <<<"$balance")
stored=$(metric "$gateway_url" sluice_gateway_receive_accepted_lines_total)
for _ in $(seq 100); do
  delivered=$(metric "$gateway_url" sluice_gateway_deliver_records_total 'outcome="delivered"')
  [ "$delivered" -ge "$stored" ] && break
  sleep 0.1
done
stop "$gateway"; gateway=''
say "balance: lines read $read_lines, delivered $delivered, held $(( ${held:-0} + stored - delivered ))"
