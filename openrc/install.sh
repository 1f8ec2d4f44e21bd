#!/bin/sh
# Installs, upgrades or removes bloom-runtime on Alpine, Debian or Raspberry Pi OS; see --help.
# What must stay true: nothing of a person's is overwritten (settings, keys, data); an upgrade that does not
# become healthy is undone; run again it changes nothing; no network is needed.
# Plain POSIX sh, for dash and busybox alike.
set -eu

usage() {
	cat <<'END'
Usage: sh install.sh [OPTION]...

Installs bloom-runtime from the unpacked tarball that this file is in, or from a tarball for this machine
beside it or in ../dist. Run again, it upgrades: the old program and a copy of the data files are kept, and
put back if the new version does not become healthy.

  --from PATH          a tarball (with SHA256SUMS beside it) or an unpacked one
  --worker             also a worker on this machine, for this machine's server
  --worker-only URL    only a worker, for the server at URL; its key is taken from RUNTIME_API_KEY
  --worker-user NAME   who runs Claude CLI: a user who is logged in to it (default: bloom-worker, made new)
  --prefix DIR         where the program goes, as DIR/bin/bloom-runtime (default /usr)
  --root DIR           into the system below DIR, such as an image; starts nothing, makes no key
  --machine NAME       x86_64, aarch64 or armv7l (default: this machine)
  --wait SECONDS       how long the server may take to become healthy (default 60)
  --uninstall          removes program and service; settings and data stay
  --purge              with --uninstall: settings, data, logs and users go too
  --help

Exit codes: 0 done · 64 wrong option or setting, nothing was changed · 65 wrong checksum or machine ·
66 nothing to install found · 69 installed, but it does not answer · 70 the upgrade was undone, the old
version runs · 74 no space, or a file cannot be written · 77 not root
END
}

say() { printf '%s\n' "$*"; }
die() {
	code=$1
	shift
	printf 'install.sh: %s\n' "$*" >&2
	exit "$code"
}
has() { command -v "$1" >/dev/null 2>&1; }

here=$(cd "$(dirname "$0")" && pwd)
root='' prefix=/usr machine=$(uname -m) from='' wait=60 uninstall='' purge=''
with_server=yes with_worker='' worker_server=http://127.0.0.1:5000 worker_user=bloom-worker
while [ $# -gt 0 ]; do
	case $1 in
	--from | --worker-only | --worker-user | --prefix | --root | --machine | --wait)
		[ $# -gt 1 ] || die 64 "$1 needs a value; see --help"
		;;
	esac
	case $1 in
	--from) from=$2 && shift ;;
	--worker) with_worker=yes ;;
	--worker-only) with_server='' with_worker=yes worker_server=$2 && shift ;;
	--worker-user) worker_user=$2 && shift ;;
	--prefix) prefix=$2 && shift ;;
	--root) root=${2%/} && shift ;;
	--machine) machine=$2 && shift ;;
	--wait) wait=$2 && shift ;;
	--uninstall) uninstall=yes ;;
	--purge) purge=yes ;;
	--help | -h) usage && exit 0 ;;
	*) die 64 "unknown option $1; see --help" ;;
	esac
	shift
done
case $wait in '' | *[!0-9]*) die 64 "--wait needs a number of seconds, such as --wait 60" ;; esac
case $prefix in /*) ;; *) die 64 "--prefix needs an absolute path, such as --prefix /usr/local" ;; esac
[ -z "$purge" ] || [ -n "$uninstall" ] || die 64 "--purge goes with --uninstall"
[ -z "$root" ] || [ -d "$root/etc" ] || die 64 "--root $root has no etc in it: it is no system"
[ "$(id -u)" = 0 ] || die 77 "this needs root: sudo sh $0"

bin="$root$prefix/bin/bloom-runtime"
etc="$root/etc"
env_file="$etc/bloom-runtime.env"
state="$root/var/lib"
previous="$state/bloom-runtime-previous"

# Which init starts services there, and whether it runs now.
if [ -d "$root/run/systemd/system" ] || { [ -x "$root/lib/systemd/systemd" ] && [ ! -d "$root/run/openrc" ]; }; then
	init=systemd units="$etc/systemd/system" running=/run/systemd/system
elif [ -x "$root/sbin/openrc-run" ]; then
	init=openrc units="$etc/init.d" running=/run/openrc
else
	init=none units='' running=/nonexistent
fi
[ -z "$root" ] && [ -d "$running" ] || running=

# service ACTION NAME, where an init runs.
service() {
	[ -n "$running" ] || return 0
	case $init in
	openrc) rc-service --quiet "$2" "$1" ;;
	systemd) systemctl --quiet "$1" "$2" ;;
	esac
}
is_started() {
	[ -n "$running" ] || return 1
	case $init in
	openrc) rc-service --quiet "$1" status >/dev/null 2>&1 ;;
	systemd) systemctl --quiet is-active "$1" ;;
	esac
}

user_field() { awk -F: -v user="$1" -v field="$2" '$1 == user { print $field }' "$etc/passwd"; }
give() { # give USER MODE PATH...
	owner=$1 mode=$2
	shift 2
	chown "$(user_field "$owner" 3):$(user_field "$owner" 4)" "$@"
	chmod "$mode" "$@"
}

make_user() { # make_user NAME HOME
	[ -z "$(user_field "$1" 3)" ] || return 0
	if [ -z "$root" ] && has useradd; then
		useradd --system --user-group --no-create-home --home-dir "$2" --shell /sbin/nologin "$1"
		return
	fi
	# In an image, and with busybox, whose adduser does the same where there is one.
	id=100
	while grep -q ":$id:" "$etc/passwd" "$etc/group"; do id=$((id + 1)); done
	echo "$1:x:$id:" >>"$etc/group"
	echo "$1:x:$id:$id::$2:/sbin/nologin" >>"$etc/passwd"
	[ ! -f "$etc/shadow" ] || echo "$1:!:0:::::::" >>"$etc/shadow"
}

sum_of() { sha256sum "$1" | cut -d ' ' -f 1; }
check_sum() { # check_sum FILE SUMS: FILE is listed in SUMS under its own name
	[ -f "$2" ] || die 65 "$2 is missing: nothing says that $1 is what was published"
	listed=$(awk -v name="$(basename "$1")" '$2 == name || $2 == "*" name { print $1 }' "$2")
	[ -n "$listed" ] || die 65 "$2 does not list $(basename "$1")"
	[ "$listed" = "$(sum_of "$1")" ] || die 65 "$1 is damaged: its SHA-256 is not the one in $2"
}

# Sets `folder` to an unpacked tarball whose program has been checked.
find_folder() {
	case $machine in
	x86_64 | amd64) target=x86_64-unknown-linux-musl ;;
	aarch64 | arm64 | armv8*) target=aarch64-unknown-linux-musl ;;
	armv7*) target=armv7-unknown-linux-musleabihf ;;
	*) die 65 "there is no bloom-runtime for $machine: x86_64, aarch64 and armv7 there are" ;;
	esac
	if [ -z "$from" ]; then
		[ ! -f "$here/../bloom-runtime" ] || from=$here/..
		for found in "$here"/bloom-runtime-*-"$target".tar.gz "$here"/../dist/bloom-runtime-*-"$target".tar.gz; do
			[ -f "$found" ] || continue
			[ -z "$from" ] || die 66 "there are several: choose one with --from: $from $found"
			from=$found
		done
	fi
	[ -e "$from" ] || die 66 "no bloom-runtime-VERSION-$target.tar.gz here; name one with --from"
	folder=$from
	if [ -f "$from" ]; then
		check_sum "$from" "$(dirname "$from")/SHA256SUMS"
		tar -xzf "$from" -C "$work"
		folder=$(echo "$work"/bloom-runtime-*)
	fi
	check_sum "$folder/bloom-runtime" "$folder/SHA256SUMS"
}

put() { # put MODE FROM TO: in one step, or not at all
	mkdir -p "$(dirname "$3")"
	cp "$2" "$3.new" && chmod "$1" "$3.new" && mv -f "$3.new" "$3"
}
put_service() { # put_service MODE FROM TO: with the program's real place in it
	sed "s|/usr/bin/bloom-runtime|$prefix/bin/bloom-runtime|" "$2" >"$work/service"
	put "$1" "$work/service" "$3"
}
install_service() { # install_service NAME: its files, but never a person's
	case $init in
	openrc)
		if [ -e "$units/$1" ] && ! grep -q '/bin/bloom-runtime"$' "$units/$1"; then
			service stop "$1" || true
			put 0644 "$units/$1" "$etc/$1.init-before"
			say "another service of this name was stopped; its script is kept as $etc/$1.init-before"
		fi
		put_service 0755 "$folder/openrc/$1" "$units/$1"
		[ -e "$etc/conf.d/$1" ] || put 0644 "$folder/openrc/conf.d/$1" "$etc/conf.d/$1"
		put 0644 "$folder/openrc/bloom-runtime.logrotate" "$etc/logrotate.d/bloom-runtime"
		mkdir -p "$etc/runlevels/default"
		ln -sf "/etc/init.d/$1" "$etc/runlevels/default/$1"
		;;
	systemd)
		put_service 0644 "$folder/openrc/$1.service" "$units/$1.service"
		mkdir -p "$units/multi-user.target.wants"
		ln -sf "/etc/systemd/system/$1.service" "$units/multi-user.target.wants/$1.service"
		[ -z "$running" ] || systemctl daemon-reload
		;;
	esac
}

# The flags that the service gives to `serve`, and what `check` says with them.
flags_of_service() {
	[ "$init" = openrc ] && [ -f "$etc/conf.d/bloom-runtime" ] || return 0
	# shellcheck source=/dev/null # a person's file, and root's
	(. "$etc/conf.d/bloom-runtime" >/dev/null && printf '%s' "${server_flags:-}")
}
checked() { # checked PROGRAM
	su -s /bin/sh bloom -c "'$1' check $(flags_of_service)" 2>&1
}
is_healthy() {
	# shellcheck disable=SC2046 # several flags
	"$bin" health $(flags_of_service) >/dev/null 2>&1 || [ $? -eq 75 ]
}
becomes_healthy() {
	[ -n "$running" ] || return 0
	left=$wait
	until is_healthy; do
		[ "$left" -gt 0 ] || return 1
		left=$((left - 1))
		sleep 1
	done
}
last_words() {
	case $init in
	openrc) tail -n 1 "$root/var/log/bloom-runtime.log" ;;
	systemd) journalctl -u bloom-runtime -n 1 -o cat ;;
	esac 2>/dev/null || true
}

made_key=
make_settings() {
	make_user bloom /var/lib/bloom-runtime
	mkdir -p "$state/bloom-runtime"
	give bloom 0700 "$state/bloom-runtime"
	if [ -e "$env_file" ]; then
		[ -n "$root" ] || su -s /bin/sh bloom -c "test -r $env_file" || give bloom 0600 "$env_file"
	elif [ -z "$root" ]; then
		made_key=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
		(umask 077 && printf '%s\n' '# Settings of bloom-runtime: docs/OPERATIONS.md has all of them.' \
			'# Callers send this key as X-Runtime-API-Key. Without it only this machine may call.' \
			"RUNTIME_API_KEY=$made_key" '#PORT=5000' '#RETENTION_DAYS=90' >"$env_file.new")
		give bloom 0600 "$env_file.new"
		mv "$env_file.new" "$env_file"
	fi
}

# From the moment that the old server is asked to stop until the new one is healthy.
upgrading=
keep_previous() { # keep_previous DATA_DIR
	needed=$(du -ck "$bin" "$1"/*.redb 2>/dev/null | tail -n 1 | cut -f 1)
	free=$(df -Pk "$state" | awk 'NR == 2 { print $4 }')
	[ "$free" -gt $((needed + 10240)) ] ||
		die 74 "a copy of the data needs $((needed / 1024)) MiB in $state; free some, nothing was changed"
	upgrading=$1
	service stop bloom-runtime
	rm -rf "$previous"
	(umask 077 && mkdir "$previous")
	cp -p "$bin" "$previous/bloom-runtime"
	[ ! -e "$units/bloom-runtime" ] || cp -p "$units/bloom-runtime" "$previous/service"
	[ ! -e "$units/bloom-runtime.service" ] || cp -p "$units/bloom-runtime.service" "$previous/service"
	for file in "$1"/*.redb; do [ ! -f "$file" ] || cp -p "$file" "$previous/"; done
	# Returned files never change, so a second name keeps one, at no cost; not on another disk than the data.
	[ ! -d "$1/files" ] || cp -al "$1/files" "$previous/files" 2>/dev/null || rm -rf "$previous/files"
	touch "$previous/complete"
}
undo() {
	[ -n "$upgrading" ] || return 0
	data=$upgrading upgrading=''
	say "the new version does not become healthy: $(last_words)"
	service stop bloom-runtime || true
	if [ -e "$previous/complete" ]; then
		for file in "$previous"/*.redb; do
			[ ! -f "$file" ] || { cp -p "$file" "$data/.restored" && mv -f "$data/.restored" "$data/${file##*/}"; }
		done
		for file in "$previous"/files/*; do
			[ ! -f "$file" ] || [ -e "$data/files/${file##*/}" ] || ln "$file" "$data/files/"
		done
		put 0755 "$previous/bloom-runtime" "$bin"
		case $init in
		openrc) put 0755 "$previous/service" "$units/bloom-runtime" ;;
		systemd) put 0644 "$previous/service" "$units/bloom-runtime.service" && systemctl daemon-reload ;;
		esac
	fi
	service start bloom-runtime || true
	becomes_healthy || die 69 "the old version is back, but does not answer: $(last_words)"
	die 70 "the upgrade was undone: $("$bin" --version) runs again, with the data as it was"
}

install_server() {
	make_settings
	fresh=$bin.fresh
	put 0755 "$folder/bloom-runtime" "$fresh"
	if [ -n "$root" ]; then
		mv -f "$fresh" "$bin"
		install_service bloom-runtime
		return
	fi
	version=$("$fresh" --version 2>&1) || die 65 "this program does not run on this machine ($machine): $version"
	said=$(checked "$fresh") || die 64 "$said"
	if cmp -s "$fresh" "$bin"; then
		rm "$fresh"
		install_service bloom-runtime
		! is_healthy || { say "$version is installed already and runs" && return; }
	elif [ -x "$bin" ]; then
		say "upgrading $("$bin" --version) to ${version#bloom-runtime }"
		keep_previous "$(printf '%s\n' "$said" | sed -n 's/^data directory: //p')"
	fi
	[ ! -e "$fresh" ] || mv -f "$fresh" "$bin"
	install_service bloom-runtime
	if service start bloom-runtime && becomes_healthy; then
		upgrading=''
	else
		undo
		die 69 "installed, but it does not answer: $(last_words)"
	fi
}

# Where this machine's server is for its own worker, and the certificate that it made for itself.
here() {
	said=$(checked "$bin") || die 64 "$said"
	worker_server=$(printf '%s\n' "$said" | sed -n 's/^address: //p' | sed 's/0\.0\.0\.0/127.0.0.1/; s/\[::]/[::1]/')
	pin=$(printf '%s\n' "$said" | sed -n 's/^certificate: .*self-signed.*SHA-256 /BLOOM_PIN=/p')
	[ -z "$pin" ] || pin="$pin
"
	case $worker_server$pin in
	https:*BLOOM_PIN=*) ;;
	https:*) say "the worker calls $worker_server; if the certificate has another name, give the worker that one" ;;
	esac
}

install_worker() {
	home=/var/lib/bloom-worker
	make_user "$worker_user" "$home"
	if [ "$worker_user" = bloom-worker ]; then
		mkdir -p "$root$home"
		give bloom-worker 0700 "$root$home"
	fi
	pin=''
	[ -z "$with_server" ] || [ -n "$root" ] || here
	if [ ! -e "$etc/bloom-worker.env" ] && [ -z "$root" ]; then
		if [ -n "$with_server" ]; then
			key=$(grep -E '^(export +)?RUNTIME_API_KEY=' "$env_file" | tail -n 1) || true
		else
			key=${RUNTIME_API_KEY:+"RUNTIME_API_KEY=$RUNTIME_API_KEY"}
		fi
		(umask 077 && printf '# The key of the server that this worker works for.\n%s\n%s' "$key" "$pin" >"$etc/bloom-worker.env")
		give "$worker_user" 0600 "$etc/bloom-worker.env"
	fi
	install_service bloom-worker
	case $init in
	openrc)
		grep -q '^server=' "$etc/conf.d/bloom-worker" || printf 'server="%s"\ncommand_user="%s:%s"\n' \
			"$worker_server" "$worker_user" "$(id -gn "$worker_user" 2>/dev/null || echo "$worker_user")" \
			>>"$etc/conf.d/bloom-worker"
		;;
	systemd)
		[ -e "$units/bloom-worker.service.d/install.conf" ] || {
			mkdir -p "$units/bloom-worker.service.d"
			printf '[Service]\nUser=%s\nGroup=\nEnvironment=BLOOM_WORKER_SERVER=%s\n' \
				"$worker_user" "$worker_server" >"$units/bloom-worker.service.d/install.conf"
		}
		[ -z "$running" ] || systemctl daemon-reload
		;;
	esac
	service restart bloom-worker || die 69 "the worker does not start: see the lines above"
}

remove() {
	for name in bloom-worker bloom-runtime; do
		! is_started "$name" || service stop "$name"
		rm -f "$etc/runlevels/default/$name" "$etc/init.d/$name" "$etc/logrotate.d/$name"
		rm -f "$etc/systemd/system/multi-user.target.wants/$name.service" "$etc/systemd/system/$name.service"
		[ -z "$purge" ] || rm -f "$etc/conf.d/$name" "$etc/$name.env" "$root/var/log/$name.log"*
		[ -z "$purge" ] || rm -rf "$etc/systemd/system/$name.service.d" "${state:?}/$name"
	done
	rm -f "$bin" "$bin.fresh"
	[ "$init" != systemd ] || [ -z "$running" ] || systemctl daemon-reload
	if [ -z "$purge" ]; then
		say "removed; settings ($env_file) and data ($state/bloom-runtime) are still there: --purge takes them too"
		return
	fi
	rm -rf "$previous"
	for name in bloom-worker bloom; do
		if [ -z "$root" ] && has userdel; then
			[ -z "$(user_field "$name" 3)" ] || userdel "$name" || say "the user $name stays"
		else
			sed -i "/^$name:/d" "$etc/passwd" "$etc/group" "$etc/shadow" 2>/dev/null || true
		fi
	done
	say "removed, with settings, data in $state and users; a DATA_DIR elsewhere was left alone"
}

address() {
	listening=$(checked "$bin" | sed -n 's/^address: //p')
	own=$(ip -o -4 addr show scope global 2>/dev/null | awk '{ split($4, a, "/"); print a[1]; exit }') || true
	printf '%s' "$listening" | sed "s/0\.0\.0\.0/${own:-$(hostname)}/"
}

last_lines() {
	if [ -n "$root" ]; then
		say "installed below $root; it makes no key there, since every copy would have the same: run this"
		say "once more on the machine itself, or write RUNTIME_API_KEY into /etc/bloom-runtime.env"
		return
	fi
	[ -z "$with_server" ] || say "bloom-runtime answers at $(address)"
	if [ -n "$made_key" ]; then
		say "its key, which is shown this once and stands in $env_file:"
		say "    $made_key"
	fi
	[ "$init" != none ] || say "no OpenRC and no systemd here: start it with $prefix/bin/bloom-runtime serve"
	[ -n "$with_worker" ] || [ -z "$made_key" ] ||
		say "next: open the address in a browser; a machine with Claude CLI joins with install.sh --worker-only"
	[ -z "$with_worker" ] || say "next: log Claude CLI in, once: su -s /bin/sh $worker_user -c 'cd && claude'"
}

[ -z "$uninstall" ] || { remove && exit 0; }
work=$(mktemp -d)
trap 'undo; rm -rf "$work" "$bin.fresh"' EXIT
trap 'exit 74' INT TERM HUP
find_folder
if [ -n "$with_server" ]; then
	install_server
else
	put 0755 "$folder/bloom-runtime" "$bin"
fi
[ -z "$with_worker" ] || install_worker
last_lines
