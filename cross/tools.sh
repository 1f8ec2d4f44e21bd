# shellcheck shell=sh disable=SC2034 # read by others
# For build.sh and tests/cross/run.sh, which read this file from the project's folder (`. cross/tools.sh`):
# gets one C compiler for every target (zig) and the targets' standard libraries, and compiles with them.
# Must stay true: what is compiled names no folder of this machine, and nothing is installed outside of
# .tools but rustup's own components and, where it is missing, a package. Not here: what is made of it.

targets="x86_64-unknown-linux-musl aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf"
tools=$PWD/.tools/cross
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
zig_version=0.15.2
zigbuild_version=0.24.1

say() { printf '\n== %s\n' "$*"; }
die() { echo "$*" >&2; exit 69; }
need() { # need COMMAND PACKAGE...: installs the packages where a package manager and root allow it
    command -v "$1" >/dev/null 2>&1 && return 0
    shift
    say "installing $*"
    if command -v apt-get >/dev/null 2>&1; then
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >/dev/null
    elif command -v apk >/dev/null 2>&1; then
        apk add --no-cache "$@"
    else
        die "please install: $*"
    fi
}

# What compiles for every target.
get_compilers() {
    command -v rustup >/dev/null 2>&1 ||
        die "rustup is missing: install Rust (see https://rustup.rs), then run this again"
    need cc gcc # for build scripts, which run on this machine
    need python3 python3
    if [ "$(cat "$tools/versions" 2>/dev/null)" != "$zig_version $zigbuild_version" ]; then
        say "installing zig $zig_version and cargo-zigbuild $zigbuild_version into .tools/cross"
        mkdir -p "$tools"
        python3 -c 'import ensurepip' 2>/dev/null || need python3-venv python3-venv
        python3 -m venv --clear "$tools/py"
        "$tools/py/bin/pip" install -q --disable-pip-version-check \
            "ziglang==$zig_version" "cargo-zigbuild==$zigbuild_version" || die "pip cannot fetch them"
        echo "$zig_version $zigbuild_version" >"$tools/versions"
    fi
    PATH=$tools/py/bin:$PATH
    export PATH
}

# get_std TARGET: gets its standard library, and sets `std_source` to where cargo is to build it from.
get_std() {
    std_source=
    case $1 in
    armv7-*)
        get_patched_std && return 0
        echo "with the standard library as it comes, this program for $1 works until 2038-01-19 only"
        ;;
    esac
    rustup target list --installed | grep -qx "$1" && return 0
    rustup --quiet target add "$1" 2>"$tools/rustup.log" && return 0
    echo "rustup cannot fetch the standard library for $1: building it from its source"
    rustup --quiet component add rust-src 2>>"$tools/rustup.log" || { cat "$tools/rustup.log" >&2; exit 69; }
    std_source=$(rustc --print sysroot)/lib/rustlib/src/rust/library
}

# On musl with 32 bits Rust's library reads a clock of 32 bits and panics when that is full
# (docs/decisions/0023). One call is enough to change, in a copy of its source. The copy lies where it would in a
# toolchain, beside links to the rest of one, since cargo names what it builds by the place in the toolchain: from
# elsewhere the program would depend on the folder.
get_patched_std() {
    rustup --quiet component add rust-src 2>"$tools/rustup.log" || return 1
    toolchain=$(rustc --print sysroot)
    host=$(rustc -vV | sed -n 's/^host: //p')
    patched=$tools/rust-$(rustc -vV | sed -n 's/^commit-hash: //p')-$(cksum <cross/std-time64.patch | cut -d ' ' -f 1)
    if [ ! -d "$patched" ]; then
        need patch patch
        rm -rf "$tools/rust-"*
        mkdir -p "$patched.new/lib/rustlib/src"
        cp -R "$toolchain/lib/rustlib/src/rust" "$patched.new/lib/rustlib/src/"
        (cd "$patched.new/lib/rustlib/src/rust/library" && patch -s -p1) <cross/std-time64.patch || return 1
        ln -s "$toolchain/lib/rustlib/$host" "$patched.new/lib/rustlib/$host"
        printf '#!/bin/sh\nexec "%s/bin/rustc" "--sysroot=%s" "$@"\n' "$toolchain" "$patched" >"$patched.new/rustc"
        chmod +x "$patched.new/rustc"
        mv "$patched.new" "$patched"
    fi
    std_source=$patched/lib/rustlib/src/rust/library
}

# compile TARGET COMMAND WORD...: what cargo-zigbuild does with the words. Of the prefixes the last one that
# fits counts.
compile() (
    target=$1 command=$2
    shift 2
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    sysroot=$(rustc --print sysroot)
    commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
    flags=$(printf '%s\037' \
        "--remap-path-prefix=$cargo_home=/cargo" \
        "--remap-path-prefix=$sysroot/lib/rustlib/src/rust=/rustc/$commit" \
        "--remap-path-prefix=$PWD=/bloom-runtime" \
        "--remap-path-prefix=$target_dir=/bloom-runtime/target" \
        -Zuse-sync-unwind=yes)
    if [ -n "$std_source" ]; then
        # zig has the start files and libc.
        flags=$(printf '%s--remap-path-prefix=%s=/rustc/%s/library\037-Clink-self-contained=no\037' \
            "$flags" "$std_source" "$commit")
        set -- "-Zbuild-std=std,panic_unwind${std_more:-}" "$@"
        [ ! -x "${std_source%/lib/rustlib/*}/rustc" ] || export RUSTC="${std_source%/lib/rustlib/*}/rustc"
    fi
    # A kernel that makes huge pages of everything would make the allocator's memory many times as large;
    # nothing unwinds through C.
    export "CFLAGS_$(echo "$target" | tr - _)=-DMI_DEFAULT_ALLOW_THP=0 -fno-unwind-tables -fno-asynchronous-unwind-tables"
    # For the two -Z: panics unwind from calls alone, so the tables need not tell of every instruction.
    export RUSTC_BOOTSTRAP=1
    CARGO_ENCODED_RUSTFLAGS=${flags%?} CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_SMALL_STRIP=none \
        CARGO_INCREMENTAL=0 \
        cargo-zigbuild "$command" --locked --target "$target" "$@"
)
