#!/bin/sh
# Checks the units of this folder: `systemd-analyze verify` has nothing to say, and none is more
# exposed than 2.0. Needs systemd 252; nothing is installed and nothing is started.
set -eu
cd "$(dirname "$0")"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

units=$root/etc/systemd/system
mkdir -p "$units/teamster-worker@2.service.d" "$root/opt/teamster/bin" "$root/usr/lib/systemd"
cp -R /usr/lib/systemd/system "$root/usr/lib/systemd/"
for program in 1/worker 2/worker bin/head; do
    install -D -m 755 /dev/null "$root/opt/teamster/$program"
done
# As instances, since a template alone is not checked to its end; the second with programs.
for unit in teamster-worker@1 teamster-worker@2 teamster-head@primes; do
    cp "${unit%@*}@.service" "$units/$unit.service"
done
cp programs.conf "$units/teamster-worker@2.service.d/"

for unit in teamster-worker@1 teamster-worker@2 teamster-head@primes; do
    said=$(systemd-analyze verify --man=no --root="$root" "$unit.service" 2>&1 |
        grep -F teamster) && fail "$said"
    said=$(systemd-analyze security --no-pager --offline=true --root="$root" --threshold=20 \
        "$unit.service") || fail "$said"
    printf '%s\n' "$said" | tail -n 1
done
