#!/usr/bin/env bash
# Installs what is missing, and nothing else: deps.sh run | test. Safe to call again; quick when all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

run_packages=(iproute2 nftables redis-server postgresql openssl)
test_packages=("${run_packages[@]}" clang-19 llvm-19 libbpf-dev bpftool chromium prometheus etcd-server systemd)

case "${1:-}" in
run) packages=("${run_packages[@]}") ;;
test) packages=("${test_packages[@]}") ;;
*) echo "usage: deps.sh run|test" >&2; exit 2 ;;
esac

missing=()
for p in "${packages[@]}"; do
  [[ $(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null) == installed ]] || missing+=("$p")
done

if ((${#missing[@]})); then
  if ((EUID != 0)); then
    echo "deps: missing packages: ${missing[*]}. Run: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
  echo "deps: installing ${missing[*]}"
  # The demo starts its own Redis and PostgreSQL inside namespaces, a test its own Prometheus and etcd: a package must not start one on the host.
  policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  log=$(mktemp)
  if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "deps: apt-get could not install ${missing[*]}: see $log" >&2
    exit 1
  fi
  rm -f "$log"
fi

for tool in go node npm; do
  command -v "$tool" >/dev/null || { echo "deps: $tool is missing: install Go 1.26 and Node 20 or newer" >&2; exit 1; }
done

scripts/install-chdb.sh
if [[ $1 == test ]]; then
  for tool in tools/*/; do
    scripts/install-tool.sh "$(basename "$tool")"
  done
fi
