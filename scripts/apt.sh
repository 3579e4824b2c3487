# To be sourced.

# apt_mirror, and the name of a release: prints the mirror that this machine's sources of apt name for
# it, of both forms of sources. A folder other than /etc/apt can follow. Fails if there is none.
apt_mirror() {
	for file in "${2:-/etc/apt}"/sources.list "${2:-/etc/apt}"/sources.list.d/*.list; do
		if [ -r "$file" ]; then cat "$file"; echo; fi
	done | awk -v suite="$1" '
		$1 == "deb" {
			sub(/\[[^]]*\]/, "")
			if ($3 == suite && $2 !~ /^cdrom:/) { print $2; exit }
		}' | grep . && return
	for file in "${2:-/etc/apt}"/sources.list.d/*.sources; do
		if [ -r "$file" ]; then cat "$file"; echo; fi
	done | awk -v suite="$1" '
		BEGIN { RS = "" }
		{
			text = "\n" $0
			gsub(/\n#[^\n]*/, "", text)
			gsub(/\n[ \t]+/, " ", text) # a value can go on in the next line
			split("", field)
			n = split(text, lines, "\n")
			for (i = 1; i <= n; i++) {
				colon = index(lines[i], ":")
				value = substr(lines[i], colon + 1)
				gsub(/[ \t]+/, " ", value)
				field[tolower(substr(lines[i], 1, colon - 1))] = " " value " "
			}
			off = tolower(field["enabled"]) ~ /^ *(no|false|off|0) *$/
			if (!off && index(field["types"], " deb ") && index(field["suites"], " " suite " ")) {
				split(field["uris"], uris, " ")
				print uris[1]
				exit
			}
		}' | grep .
}

# apt_install, and the name of the script, and Debian packages that are missing. Without root it prints
# the command that installs them. Services that come with them are not started. A line in $apt_source,
# as sources.list has them, is a further source for this one time.
apt_install() {
	name=$1
	shift
	if [ $# -eq 0 ]; then return; fi
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "$name: missing: $*, and there is no apt-get: install them with this system's tool" >&2
		exit 1
	fi
	if [ "$(id -u)" -ne 0 ]; then
		echo "$name: missing: $*: run this as root:" >&2
		echo "    apt-get update && apt-get install -y --no-install-recommends $*" >&2
		if [ -n "${apt_source:-}" ]; then echo "with this line in /etc/apt/sources.list: $apt_source" >&2; fi
		exit 1
	fi

	made= source_list=
	trap 'if [ -n "$made" ]; then rm -f /usr/sbin/policy-rc.d; fi; rm -f $source_list' EXIT
	if [ -n "${apt_source:-}" ]; then
		source_list=/etc/apt/sources.list.d/$name.list
		echo "$apt_source" >"$source_list"
	fi
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		made=1
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod +x /usr/sbin/policy-rc.d
	fi
	DEBIAN_FRONTEND=noninteractive
	export DEBIAN_FRONTEND
	apt-get update -q
	apt-get install -q -y --no-install-recommends "$@"
}
