#!/usr/bin/env bash
# Runs the demo for SOAK (default 1h) under load and fails if anything was lost or memory kept growing.
set -euo pipefail
cd "$(dirname "$0")/.."

duration=${SOAK:-1h}
data=$(mktemp -d)
log=$data/up.log
bin/parallax up --demo --demo-rate 50 --for "$duration" --data "$data/store" >"$log" 2>&1 &
pid=$!
trap 'kill -INT $pid 2>/dev/null || true; wait $pid || true; rm -rf "$data"' EXIT

rss() { awk '/^VmRSS/ {print int($2/1024)}' "/proc/$pid/status"; }
sleep 60
early=$(rss)
latest=$early
while kill -0 $pid 2>/dev/null; do
  if ! bin/parallax status >"$data/status" 2>&1; then
    kill -0 $pid 2>/dev/null || break
    cat "$data/status" "$log"
    exit 1
  fi
  latest=$(rss || echo "$latest")
  printf '%s  %s MiB  %s\n' "$(date -u +%T)" "$latest" "$(grep -m1 -i ledger "$data/status")"
  sleep 30
done
wait $pid || { cat "$log"; exit 1; }
trap 'rm -rf "$data"' EXIT

grep -qi exact "$data/status" || { echo "soak: the ledger is not exact"; cat "$data/status"; exit 1; }
((latest < early + early / 4 + 128)) || { echo "soak: memory grew from $early to $latest MiB"; exit 1; }
echo "soak: nothing lost, memory $early -> $latest MiB"
