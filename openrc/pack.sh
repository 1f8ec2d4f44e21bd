#!/bin/sh
# Packs one binary with what belongs to it, as install.sh takes it:
#   bloom-runtime-VERSION-TARGET.tar.gz, which holds one folder of that name with
#     bloom-runtime  SHA256SUMS (of it)  openrc/  README.md  CHANGELOG.md  docs/  LICENSE (where there is one)
#   and SHA256SUMS beside it, a line for each tarball.
# The same input gives the same bytes.
#   sh openrc/pack.sh BINARY TARGET [FOLDER]     FOLDER: dist, unless said otherwise
set -eu
project=$(cd "$(dirname "$0")/.." && pwd)
binary=$1 target=$2 out=${3:-$project/dist}
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' "$project/Cargo.toml" | head -n 1)}
name=bloom-runtime-$version-$target
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$out" "$work/$name/docs"
cp "$binary" "$work/$name/bloom-runtime"
cp -R "$project/openrc" "$work/$name/openrc"
cp "$project/README.md" "$project/CHANGELOG.md" "$work/$name/"
cp "$project"/docs/*.md "$project/docs/nginx.conf" "$work/$name/docs/"
[ ! -f "$project/LICENSE" ] || cp "$project/LICENSE" "$work/$name/"
(cd "$work/$name" && sha256sum bloom-runtime >SHA256SUMS)
find "$work/$name" -type d -exec chmod 0755 {} +
find "$work/$name" -type f -exec chmod 0644 {} +
chmod 0755 "$work/$name/bloom-runtime" "$work/$name"/openrc/*.sh

tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work" -cf - "$name" | gzip -9n >"$out/$name.tar.gz.new"
mv "$out/$name.tar.gz.new" "$out/$name.tar.gz"
touch "$out/SHA256SUMS"
grep -v "  $name.tar.gz\$" "$out/SHA256SUMS" >"$work/sums" || true
(cd "$out" && sha256sum "$name.tar.gz") >>"$work/sums"
sort -k 2 "$work/sums" >"$out/SHA256SUMS"
echo "$out/$name.tar.gz"
