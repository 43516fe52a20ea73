#!/bin/sh
# Installs libchdb.so, the ClickHouse engine as a library, into the cache: $PARALLAX_CACHE/chdb-VERSION (default
# ~/.cache/parallax). Does nothing where it is there already. The package's integrity hash is pinned here, so that nothing
# unexpected is ever loaded; a new version needs both a new VERSION (also in storage/embedded/library.go) and new hashes.
set -eu

VERSION=26.5.3
case $(uname -m) in
x86_64)
	package=@chdb/lib-linux-x64-gnu
	integrity='sha512-fPrLmRt5Moor9yGz4mazbrNje4t7X9KB2mTGkXFWRxRBs2iKy8yh6jx11xsa0Qr3iDFMU/yHqd+bVdYJXu3QaQ=='
	;;
aarch64)
	package=@chdb/lib-linux-arm64-gnu
	integrity=${CHDB_INTEGRITY:-}
	if [ -z "$integrity" ]; then
		echo "install-chdb: no hash is pinned for arm64: set CHDB_INTEGRITY to that of $package@$VERSION, or PARALLAX_LIBCHDB to a library" >&2
		exit 1
	fi
	;;
*)
	echo "install-chdb: no engine for $(uname -m): use --storage memory: or clickhouse://..." >&2
	exit 1
	;;
esac

cache=${PARALLAX_CACHE:-$HOME/.cache/parallax}
target=$cache/chdb-$VERSION
if [ -s "$target/libchdb.so" ]; then
	exit 0
fi
for tool in npm openssl tar; do
	if ! command -v $tool >/dev/null; then
		echo "install-chdb: $tool is missing" >&2
		exit 1
	fi
done

mkdir -p "$cache"
work=$(mktemp -d "$cache/chdb-$VERSION.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
echo "install-chdb: fetching $package@$VERSION (160 MB) into $target"
tgz=$work/$(cd "$work" && npm pack --silent "$package@$VERSION")
got=sha512-$(openssl dgst -sha512 -binary "$tgz" | base64 -w 0)
if [ "$got" != "$integrity" ]; then
	echo "install-chdb: $package@$VERSION has hash $got, expected $integrity" >&2
	exit 1
fi
tar -xzf "$tgz" -C "$work" package/libchdb.so
chmod 755 "$work/package" "$work/package/libchdb.so"
# A rename is atomic: whoever looks sees all of the library or none. Losing a race to another install is fine.
mv -T "$work/package" "$target" 2>/dev/null || [ -s "$target/libchdb.so" ]
