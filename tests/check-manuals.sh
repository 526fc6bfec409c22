#!/bin/sh
# Fail when the manuals or the shipped configuration do not say what the
# program does: keys, options, log messages, examples; or do not render cleanly.
#
# In the manuals: a key is a line `**key** (type, range; default x)`; a block
# ```libconfig is tried at the path that its first line names; what gatewayd
# says to the block ```wrong is the block ```errors; a log message stands in
# backticks, `...` for what varies, in the section LOG MESSAGES.
set -u
src=${srcdir:-.}
gatewayd=${builddir:-.}/gatewayd/gatewayd
man=$src/man
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
bad=0

complain() {
	echo "check-manuals: $1"
	bad=1
}

# Lines of $1 that are no line of $2 are complained about with the text $3.
all_in() {
	grep -vxF -f "$2" "$1" >"$dir/missing"
	while IFS= read -r line; do
		complain "$3: $line"
	done <"$dir/missing"
}

# ---- keys ----

# The table as lines of the manual.
key_lines() {
	"$gatewayd" --list-keys | awk -F'\t' '
	function quoted(s) { return $2 ~ /^(integer|boolean)$/ ? s : "\"" s "\"" }
	{
		gsub(/<name>/, "NAME")
		what = $2
		if ($2 == "choice") {
			n = split($4, c, "|")
			what = quoted(c[1])
			for (i = 2; i <= n; i++)
				what = what (i < n ? ", " : " or ") quoted(c[i])
		} else if (split($4, range, /\.\./) == 2)
			what = what ", " quoted(range[1]) " to " quoted(range[2])
		dflt = $5 == "(required)" ? "required" : "default " quoted($5)
		print "**" $1 "** (" what "; " dflt ")"
	}'
}

# The table as settings of the shipped file, `group key = value;`, where serial
# devices and routes are groups in a group; any value for a required key.
setting_lines() {
	"$gatewayd" --list-keys | awk -F'\t' '
	{
		gsub(/<name>/, "meter1", $5)
		n = split($1, part, ".")
		if ($5 == "(required)")
			value = "ANY"
		else if ($2 ~ /^(integer|boolean)$/)
			value = $5
		else
			value = "\"" $5 "\""
		print part[1] " " part[n] " = " value ";"
	}'
}

# The settings that the shipped file shows, as setting_lines() writes them.
shown_settings() {
	awk '
	/^[a-z]+ :$/ { group = $1 }
	match($0, /[a-z_]+ = [^;]*/) {
		setting = substr($0, RSTART, RLENGTH)
		print group " " setting ";"
		sub(/ = .*/, " = ANY", setting)
		print group " " setting ";"
	}
	/filter = \[/ { print group " filter = ANY;" }' "$src/etc/gatewayd.conf"
}

key_lines >"$dir/want"
[ -s "$dir/want" ] || complain "$gatewayd --list-keys printed nothing"
grep -E '^\*\*[a-zA-Z_]+\.[a-zA-Z_.]+\*\* \(' "$man/gatewayd.conf.5.md" \
	>"$dir/have"
all_in "$dir/want" "$dir/have" "gatewayd.conf.5.md lacks the line"
all_in "$dir/have" "$dir/want" "gatewayd.conf.5.md has a line that is not true"

setting_lines >"$dir/want"
shown_settings >"$dir/have"
all_in "$dir/want" "$dir/have" "etc/gatewayd.conf lacks"

# ---- options ----

# The options in $1's --help as lines of its manual.
option_lines() {
	"$1" --help | sed -n -E \
		-e 's/^  (-.), (--[a-z-]+)( ([A-Z]+))? .*/**\1**, **\2** *\4*/p' \
		-e 's/^  (--[a-z-]+) ([A-Z]+) .*/**\1** *\2*/p' |
		sed 's/ \*\*$//'
}

# $1: program, $2: its manual
check_options() {
	option_lines "$1" >"$dir/want"
	[ -s "$dir/want" ] || complain "$1 --help shows no options"
	grep -E '^\*\*--?[a-zA-Z]' "$2" | grep -v '^\*\*-h' >"$dir/have"
	echo '**-h**, **--help**' >>"$dir/have"
	all_in "$dir/want" "$dir/have" "${2##*/} lacks the option"
	echo '**-h**, **--help**' >>"$dir/want"
	all_in "$dir/have" "$dir/want" "${2##*/} has an option that is none"
}

check_options "$gatewayd" "$man/gatewayd.8.md"
check_options "$src/localbus/gatewayd-pki" "$man/gatewayd-pki.8.md"

# ---- log messages ----

# Each C source as one line without what joins the parts of a string.
cat "$src"/base/*.c "$src"/bridge/*.c "$src"/gatewayd/*.c \
	"$src"/localbus/*.c "$src"/spool/*.c |
	tr -d '\n\t' | sed 's/" *"//g' >"$dir/sources"
# shellcheck disable=SC2016 # backticks are meant
sed -n '/^# LOG MESSAGES/,/^# SECURITY/p' "$man/gatewayd.8.md" |
	grep '^`' | grep -o '`[^`]*`' | tr -d '`' >"$dir/messages"
[ "$(wc -l <"$dir/messages")" -gt 20 ] || complain "log messages not found"
sed 's/\.\.\./\n/g' "$dir/messages" | while IFS= read -r part; do
	grep -qF -e "$part" "$dir/sources" || echo "$part"
done >"$dir/missing"
while IFS= read -r part; do
	complain "gatewayd.8.md: no source has the log text: $part"
done <"$dir/missing"

# ---- examples ----

# Write the blocks of kind $2 in the manual $1 to files $dir/blocks/N.
cut_blocks() {
	rm -rf "$dir/blocks"
	mkdir "$dir/blocks"
	awk -v kind='```'"$2" -v to="$dir/blocks/" '
	$0 == kind { n++; on = 1; next }
	/^```/ { on = 0 }
	on { print >(to n) }' "$1"
}

# A folder like /etc/gatewayd, as shipped.
make_etc() {
	rm -rf "${dir:?}/etc"
	mkdir -p "$dir/etc/conf.d"
	cp "$src/etc/gatewayd.conf" "$dir/etc/"
	# The host's name may be none that gateway.name can have.
	echo 'gateway : { name = "gateway-1"; };' >"$dir/etc/conf.d/00-name.conf"
}

check_config() {
	"$gatewayd" --check-config --config "$dir/etc/gatewayd.conf" 2>&1
}

# Put block $1 where its first line says.
put_block() {
	path=$(sed -n '1s|^# /etc/gatewayd/||p' "$1")
	if [ -z "$path" ]; then
		complain "an example does not begin with its path: $(head -1 "$1")"
	else
		cp "$1" "$dir/etc/$path"
	fi
}

examples=0
for page in "$man"/*.md; do
	cut_blocks "$page" libconfig
	for block in "$dir"/blocks/*; do
		[ -e "$block" ] || continue
		examples=$((examples + 1))
		make_etc
		put_block "$block"
		check_config >"$dir/said" ||
			complain "an example in ${page##*/} is wrong: $(cat "$dir/said")"
	done
done
[ $examples -ge 5 ] || complain "only $examples examples found"

make_etc
cut_blocks "$man/gatewayd.conf.5.md" wrong
put_block "$dir/blocks/1"
check_config | sed "s|^$dir/etc/|/etc/gatewayd/|" >"$dir/said"
cut_blocks "$man/gatewayd.conf.5.md" errors
diff "$dir/blocks/1" "$dir/said" ||
	complain "gatewayd.conf.5.md: --check-config says something else (>)"

# The defaults that the shipped file shows are right as settings, too.
make_etc
sed -E 's/^(\t?)# ([a-z_]+ = )/\1\2/' "$src/etc/gatewayd.conf" \
	>"$dir/etc/gatewayd.conf"
check_config || complain "etc/gatewayd.conf: the defaults that it shows are wrong"

# ---- rendering ----

tools=yes
for tool in go-md2man man groff; do
	command -v $tool >/dev/null || tools=no
done
if [ $tools = yes ]; then
	for page in "$man"/*.md; do
		name=$(basename "$page" .md)
		go-md2man -in "$page" -out "$dir/$name" ||
			complain "$name does not render"
		LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -l "$dir/$name" \
			>"$dir/text" 2>"$dir/said"
		[ -s "$dir/said" ] && complain "$name: $(cat "$dir/said")"
		grep -q '^SEE ALSO' "$dir/text" || complain "$name: no SEE ALSO"
	done
fi
[ $bad = 0 ] || exit 1
[ $tools = yes ] || {
	echo "go-md2man, man or groff is missing: pages were not rendered"
	exit 77
}
