#!/bin/sh
# Builds Jaeger, which a test sends spans to, into the cache: $PARALLAX_CACHE/jaeger-VERSION/jaeger (default ~/.cache/parallax).
# Does nothing where it is there already. tools/jaeger/go.mod says the version, go.sum every byte that is compiled: it began as
# Jaeger's own, some of whose modules the checksum database does not know.
set -eu
cd "$(dirname "$0")/../tools/jaeger"

version=$(go list -m -f '{{.Version}}' github.com/jaegertracing/jaeger)
cache=${PARALLAX_CACHE:-$HOME/.cache/parallax}
target=$cache/jaeger-$version
if [ -x "$target/jaeger" ]; then
	exit 0
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/jaeger-$version.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
echo "install-jaeger: building Jaeger $version into $target (several minutes, once)"
mkdir "$work/out"
CGO_ENABLED=0 nice go build -trimpath -ldflags '-s -w' -o "$work/out/jaeger" github.com/jaegertracing/jaeger/cmd/jaeger
# A rename is atomic: whoever looks sees all of it or none. Losing a race to another install is fine.
mv -T "$work/out" "$target" 2>/dev/null || [ -x "$target/jaeger" ]
