#!/bin/sh
# Builds what runs on a bare Linux: DIR/head and DIR/worker, fully static and stripped, and
# DIR/SHA256SUMS; with their manual pages. Two builds of one commit are one hash, wherever they
# are done.
#
# Usage: deploy/build.sh [DIR]                                        (default: dist)
#
# glibc rather than musl: its allocator and memcpy are what the benchmarks were run with. The
# profile is the benchmarks', too; nothing is optimised for size.
set -eu

size_max_bytes=2621440
target=$(uname -m)-unknown-linux-gnu
dir=${1:-dist}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
cd "$(dirname "$0")/.."
source=$(pwd)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

# No path of this machine gets into the files, and nothing of another build: not the caller's
# flags, and no target folder but one of its own.
for name in $(env | sed -n 's/^\(CARGO_\(BUILD\|ENCODED\|PROFILE\|TARGET\)_[A-Z0-9_]*\)=.*/\1/p'); do
    unset "$name"
done
RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$source=/teamster \
--remap-path-prefix=$cargo_home=/cargo --remap-path-prefix=$sysroot=/rust"
case $target in
x86_64-*)
    # Rust's own linker packs the addresses to be adjusted at the start, and keeps functions that
    # are the same once.
    RUSTFLAGS="$RUSTFLAGS -C link-arg=-Wl,--pack-dyn-relocs=relr,--icf=all"
    ;;
esac
export RUSTFLAGS CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_STRIP=symbols
# With a target named, the flags are for it alone and not for what runs during the build.
cargo build --locked --release --bins --target "$target" --target-dir target/dist

for program in head worker; do
    built=target/dist/$target/release/$program
    headers=$(readelf --wide --program-headers --dynamic "$built")
    case $headers in
    *INTERP* | *NEEDED*) fail "$program is not static: it wants a loader or a library" ;;
    esac
    bytes=$(wc -c <"$built")
    [ "$bytes" -le $size_max_bytes ] || fail "$program has $bytes bytes, over $size_max_bytes"
    # Never into a file that runs.
    rm -f "$dir/$program"
    install -m 755 "$built" "$dir/$program"
    "$dir/$program" --version >/dev/null || fail "$program does not start"
    echo "$program: $bytes bytes"
done
install -m 644 docs/man/*.1 "$dir"
cd "$dir"
sha256sum head worker >SHA256SUMS
cat SHA256SUMS
