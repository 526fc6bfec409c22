#!/bin/sh
# What `make dist` packs: every file that git tracks, but for those that only
# matter in a git checkout.
set -eu
unset MAKEFLAGS MFLAGS MAKELEVEL
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT

cd "$srcdir"
git -c safe.directory='*' ls-files >"$dir/tracked" 2>/dev/null ||
	{ echo 'not a git checkout'; exit 77; }
make -s --no-print-directory -C "$builddir" distdir distdir="$dir/dist" \
	>"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
missing=$(grep -v -e '^\.gitignore$' -e '^\.ci/' "$dir/tracked" |
	while read -r file; do
		[ ! -e "$file" ] || [ -e "$dir/dist/$file" ] || echo "$file"
	done)
[ -z "$missing" ] || { echo "not in the tarball: $missing"; exit 1; }
