#!/usr/bin/env bash
# Fails if a generated and committed file differs from what its source gives now. The stale files are left renewed.
set -euo pipefail
cd "$(dirname "$0")/.."

sums() { find bpf -name '*_bpfel.o' -o -name '*_bpfel.go' | sort | xargs sha256sum; }
before=$(sums)
go generate ./bpf/...
after=$(sums)
if [[ $before != "$after" ]]; then
  diff <(echo "$before") <(echo "$after") >&2 || true
  echo "generate-check: the files above were stale and are renewed now: commit them" >&2
  exit 1
fi
echo "generate-check: all generated files are fresh"
