#!/bin/sh
# Builds the Kubernetes API server that the tests run into the cache: $PARALLAX_CACHE/kube-apiserver-VERSION (default
# ~/.cache/parallax). Does nothing where it is there already; else it takes about five minutes of CPU time, once. The
# version is that of tools/kube-apiserver/go.mod, whose go.sum says what may be built.
set -eu
cd "$(dirname "$0")/../tools/kube-apiserver"

version=$(sed -n 's/^.*k8s\.io\/kubernetes v\([0-9.]*\).*/\1/p' go.mod)
cache=${PARALLAX_CACHE:-$HOME/.cache/parallax}
target=$cache/kube-apiserver-$version
if [ -x "$target/kube-apiserver" ]; then
	exit 0
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/kube-apiserver-$version.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
echo "install-kube-apiserver: building $version into $target: some minutes, once"
if ! CGO_ENABLED=0 nice -n 19 go build -trimpath -mod=readonly \
	-ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$version" \
	-o "$work/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver; then
	echo "install-kube-apiserver: kube-apiserver $version could not be built: see above" >&2
	exit 1
fi
chmod 755 "$work"
# A rename is atomic: whoever looks sees the whole binary or none. Losing a race to another build is fine.
mv -T "$work" "$target" 2>/dev/null || [ -x "$target/kube-apiserver" ]
