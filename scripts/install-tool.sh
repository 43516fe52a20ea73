#!/bin/sh
# install-tool.sh NAME: builds the program of tools/NAME, which tests run, into the cache: $PARALLAX_CACHE/NAME-VERSION/NAME
# (default ~/.cache/parallax). Does nothing where it is there already; else it takes some minutes, once. tools/NAME/go.mod says
# the version, go.sum every byte that is compiled.
set -eu
name=$1
cd "$(dirname "$0")/../tools/$name"

set -- $(go list -mod=readonly -f '{{.ImportPath}} {{.Module.Version}}' tool)
package=$1 version=${2#v}
cache=${PARALLAX_CACHE:-$HOME/.cache/parallax}
target=$cache/$name-$version
if [ -x "$target/$name" ]; then
	exit 0
fi
flags='-s -w'
if [ "$name" = kube-apiserver ]; then # else it calls itself v0.0.0 and refuses its own objects
	flags="$flags -X k8s.io/component-base/version.gitVersion=v$version"
fi

mkdir -p "$cache"
work=$(mktemp -d "$cache/$name-$version.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
echo "install-tool: building $name $version into $target: some minutes, once"
if ! CGO_ENABLED=0 nice go build -trimpath -mod=readonly -ldflags "$flags" -o "$work/$name" "$package"; then
	echo "install-tool: $name $version could not be built: see above" >&2
	exit 1
fi
chmod 755 "$work"
# A rename is atomic: whoever looks sees all of it or none. Losing a race to another build is fine.
mv -T "$work" "$target" 2>/dev/null || [ -x "$target/$name" ]
