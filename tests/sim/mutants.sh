#!/bin/sh
# Shows that the simulator notices: each patch in tests/sim/mutants plants one fault in the production
# sources, and some oracle must fail. A patch that no longer applies or builds is a failure, too.
#
#   tests/sim/mutants.sh [PATCH...]      MUTANT_SEEDS=6000 how many seeds each gets at most
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
seeds=${MUTANT_SEEDS:-6000}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
[ $# -gt 0 ] || set -- "$root"/tests/sim/mutants/*.patch

# Two lanes: building uses all cores, simulating one. Each begins with what is built already.
if [ -z "${MUTANT_LANE:-}" ]; then
    (cd "$root" && cargo test -q --profile sim --test sim --no-run) || exit 1
    export MUTANT_LANE="$work"
    printf '%s\0' "$@" | xargs -0 -P2 -n $((($# + 1) / 2)) "$0"
    exit
fi
mkdir "$work/target"
cp -a "${CARGO_TARGET_DIR:-$root/target}/sim" "$work/target/"
export CARGO_TARGET_DIR="$work/target" CARGO_INCREMENTAL=1

survivors=0
lose() {
    printf '%-32s %s\n' "$1" "$2"
    survivors=$((survivors + 1))
}

for patch in "$@"; do
    name=$(basename "$patch" .patch)
    rm -rf "$work/tree"
    mkdir "$work/tree"
    (cd "$root" && git ls-files -z | xargs -0 tar cf -) | tar xf - -C "$work/tree"
    if ! git -C "$work/tree" apply --unidiff-zero "$patch" 2>"$work/log"; then
        lose "$name" "DOES NOT APPLY: $(head -1 "$work/log")"
        continue
    fi
    # A file as old as the last build would not be built again.
    sed -n 's|^+++ b/||p' "$patch" | while read -r file; do touch "$work/tree/$file"; done
    if ! (cd "$work/tree" && cargo test -q --profile sim --test sim --no-run) >"$work/log" 2>&1; then
        lose "$name" "DOES NOT BUILD: $(grep -m1 '^error' "$work/log")"
        continue
    fi
    if (cd "$work/tree" && SIM_SEEDS=$seeds cargo test -q --profile sim --test sim -- --nocapture) >"$work/log" 2>&1; then
        lose "$name" "SURVIVED $seeds seeds"
    elif grep -q '^oracle fault-floor' "$work/log"; then
        lose "$name" "SURVIVED $seeds seeds, with fewer faults"
    elif oracle=$(grep -m1 '^oracle ' "$work/log"); then
        oracle=${oracle#oracle }
        printf '%-32s caught by %s\n' "$name" "${oracle%%:*}"
    else
        lose "$name" "FAILED WITHOUT AN ORACLE"
    fi
done
[ "$survivors" -eq 0 ] || { echo "$survivors mutants not caught"; exit 1; }
