#!/bin/sh
# Builds Helm, which renders and tests the chart, into the cache: $PARALLAX_CACHE/helm-VERSION/helm (default ~/.cache/parallax).
# Does nothing where it is there already; else it takes some minutes, once. tools/helm/go.mod says the version, go.sum every
# byte that is compiled.
set -eu
cd "$(dirname "$0")/../tools/helm"

version=$(sed -n 's/^.*helm\.sh\/helm\/v4 v\([0-9.]*\).*/\1/p' go.mod)
cache=${PARALLAX_CACHE:-$HOME/.cache/parallax}
target=$cache/helm-$version
if [ -x "$target/helm" ]; then
	exit 0
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/helm-$version.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
echo "install-helm: building $version into $target: some minutes, once"
if ! CGO_ENABLED=0 nice go build -trimpath -mod=readonly -ldflags '-s -w' -o "$work/helm" helm.sh/helm/v4/cmd/helm; then
	echo "install-helm: helm $version could not be built: see above" >&2
	exit 1
fi
chmod 755 "$work"
# A rename is atomic: whoever looks sees all of it or none. Losing a race to another build is fine.
mv -T "$work" "$target" 2>/dev/null || [ -x "$target/helm" ]
