#!/bin/bash
# Tries push.sh on three machines made for it: network namespaces without a default route, in each an
# sshd of its own; on two of them systemd runs the machine (systemd-nspawn, on an overlay of this
# one's root), on the third there is none. Nothing of this machine is changed.
#
# Usage: deploy/test-push.sh [DIST]                                    (default: dist)
# Needs root, a kernel with overlayfs, and Debian's packages systemd-container, openssh-server and
# iproute2.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=$(cd "${1:-dist}" && pwd)
for tool in systemd-nspawn ip /usr/sbin/sshd ssh-keygen; do
    command -v $tool >/dev/null || {
        echo "test-push.sh: there is no $tool" >&2
        exit 2
    }
done

work=$(mktemp -d)
name=teamster-push-$$
machines=(worker-1 worker-2 worker-3)
declare -A nspawn

step() { printf '\n== %s\n' "$*"; }
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

on() { ip netns exec "$name-$1" "${@:2}"; }
remote() { on head ssh -F "$work/ssh_config" "$@"; }

leave() {
    local machine pid
    for machine in "${!nspawn[@]}"; do
        # Its only child is the first process of that machine, and takes all others with it.
        pid=${nspawn[$machine]}
        pkill -KILL --parent "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    for place in switch head "${machines[@]}"; do
        ip netns pids "$name-$place" 2>/dev/null | xargs -r kill -9 || true
        ip netns del "$name-$place" 2>/dev/null || true
    done
    umount --recursive --lazy "$work/machines" 2>/dev/null || true
    rm -rf "$work"
}
trap leave EXIT

build_network() {
    local address=10.0.0.10 place
    for place in switch head "${machines[@]}"; do
        ip netns add "$name-$place"
        ip -n "$name-$place" link set lo up
    done
    ip -n "$name-switch" link add br0 type bridge
    ip -n "$name-switch" link set br0 up
    for place in head "${machines[@]}"; do
        ip -n "$name-switch" link add "$place" type veth peer name eth0 netns "$name-$place"
        ip -n "$name-switch" link set "$place" master br0 up
        ip -n "$name-$place" address add "$address/24" dev eth0
        ip -n "$name-$place" link set eth0 up
        address=10.0.0.$((${address##*.} + 1))
    done
}

# A root of its own, in which root may log in with the key of this test.
build_root() {
    local layers=$work/machines/$1
    mkdir -p "$layers"/{up,work,root}
    mount -t overlay overlay "$layers/root" \
        -o "lowerdir=/,upperdir=$layers/up,workdir=$layers/work"
    rm -rf "$layers"/root/etc/systemd/system/*.wants "$layers/root/etc/fstab" \
        "$layers/root/root/.ssh" "$layers/root/etc/machine-id"
    install -D -m 600 "$work/id.pub" "$layers/root/root/.ssh/authorized_keys"
}

boot() {
    local root=$work/machines/$1/root command=(--boot)
    # The third one has no systemd, only an sshd.
    [ "$1" != worker-3 ] || command=(--as-pid2 sh -c 'mkdir -p /run/sshd; exec /usr/sbin/sshd -D')
    [ "$1" = worker-3 ] ||
        systemctl --quiet --root="$root" enable ssh.service 2>/dev/null
    systemd-nspawn --quiet --register=no --keep-unit --machine="$1" \
        --network-namespace-path="/run/netns/$name-$1" --directory="$root" "${command[@]}" \
        </dev/null >"$work/$1.log" 2>&1 &
    nspawn[$1]=$!
}

push() {
    SSH="ssh -F $work/ssh_config" on head deploy/push.sh --hosts "$work/hosts" \
        --worker "$dist/worker" --key "$work/key" --env "$work/env" "$@" 2>&1 | tee "$work/said"
}

said() { [ "$(grep -c "$1" "$work/said")" = "$2" ] || fail "not $2 times: $1"; }

run() {
    on head "$dist/head" --key-file "$work/key" --workers worker-1,worker-2,worker-3 "$@"
}

step "three machines without a way out"
mkdir "$work/machines"
mount -t tmpfs tmpfs "$work/machines"
ssh-keygen -q -t ed25519 -N '' -f "$work/id"
cat >"$work/ssh_config" <<END
User root
IdentityFile $work/id
BatchMode yes
StrictHostKeyChecking accept-new
UserKnownHostsFile $work/known_hosts
LogLevel ERROR
END
build_network
mkdir -p "/etc/netns/$name-head"
trap 'leave; rm -rf "/etc/netns/$name-head"' EXIT
printf '%s\n' '127.0.0.1 localhost' '10.0.0.11 worker-1' '10.0.0.12 worker-2' \
    '10.0.0.13 worker-3' >"/etc/netns/$name-head/hosts"
for machine in "${machines[@]}"; do
    build_root "$machine"
    boot "$machine"
done
for machine in "${machines[@]}"; do
    for _ in $(seq 100); do
        remote "$machine" true 2>/dev/null && continue 2
        sleep 0.3
    done
    tail "$work/$machine.log" >&2
    fail "$machine does not answer"
done
[ -z "$(on head ip route show default)" ] || fail "there is a way out"

step "one push brings all of them up"
printf '%s\n' '# the cluster' worker-1 'worker-2 # the second' worker-3 >"$work/hosts"
echo "OPTIONS=--slots 1" >"$work/env"
"$dist/head" --keygen "$work/key"
push
said 'release 1 runs (systemd)' 2
said 'release 1 runs (no systemd' 1
push
said 'nothing new: release 1 runs' 3

step "the demonstration, by names out of /etc/hosts"
run --compare
for machine in worker-1 worker-2; do
    remote "$machine" systemctl show teamster-worker@1 -p ActiveState -p SubState -p StatusText -p User \
        -p NRestarts
    remote "$machine" 'ls -la /run/credentials/teamster-worker@1.service/'
done

step "a push in mid-run loses nothing"
run square --count 60 --work-ms 500 --details --format tsv >"$work/results" 2>"$work/errors" &
job=$!
sleep 3
echo "OPTIONS=--slots 2" >"$work/env"
push
said 'release 2 runs.*release 1 finishes what it has begun' 3
wait $job || fail "the run ended with $?: $(cat "$work/errors")"
cat "$work/errors"
[ "$(cut -f 2,4 "$work/results" | sort | uniq -c | tr -s ' \t' ' ')" = " 60 done 0" ] ||
    fail "a task was lost, or charged with a loss"
awk -F '\t' '$1 * $1 != $NF { exit 1 }' "$work/results" || fail "a result is wrong"

step "one that cannot start is taken back"
echo "OPTIONS=--nonsense" >"$work/env"
push && fail "it should have"
said 'release 3 does not start; back to release 2' 3
run square --count 3 --work-ms 10
SSH="ssh -F $work/ssh_config" on head deploy/push.sh --worker /bin/false --key "$work/key" worker-1 &&
    fail "it should have"

step "a worker that dies, and one that hangs, are started again"
restarts() {
    local count
    # The watchdog takes 30 s.
    for _ in $(seq 200); do
        count=$(remote worker-1 systemctl show teamster-worker@2 -p NRestarts --value)
        [ "$count" != "$1" ] || return 0
        sleep 0.3
    done
    fail "$count restarts"
}
signal() {
    remote worker-1 "kill -s $1 \$(systemctl show teamster-worker@2 -p MainPID --value)"
}
signal KILL
restarts 1
signal STOP
restarts 2

step "a job as a unit goes on after its head is killed"
remote worker-1 'install -d -m 700 /etc/teamster/jobs && cat >/etc/teamster/key' <"$work/key"
remote worker-1 'chmod 600 /etc/teamster/key && install -d /opt/teamster/bin &&
    cat >/opt/teamster/bin/head && chmod 755 /opt/teamster/bin/head' <"$dist/head"
remote worker-1 'cat >/etc/systemd/system/teamster-head@.service' <deploy/systemd/teamster-head@.service
remote worker-1 'cat >/etc/teamster/jobs/squares.env && systemctl daemon-reload &&
    systemctl start teamster-head@squares' \
    <<<'JOB=--workers 10.0.0.12,10.0.0.13 square --count 400 --work-ms 100'
sleep 2
remote worker-1 "kill -9 \$(systemctl show teamster-head@squares -p MainPID --value)"
for _ in $(seq 200); do
    remote worker-1 'test -e /var/lib/teamster/squares/results' && break
    sleep 0.3
done
remote worker-1 'cat /var/lib/teamster/squares/results' >"$work/results"
[ "$(tail -n 1 "$work/results")" = '399 -> 159201' ] || fail "it did not go on"
remote worker-1 journalctl --no-pager --output cat --unit teamster-head@squares

step "and removed"
push --remove
said 'release 2 is removed' 3
push --remove
said 'there is no worker' 3
for machine in "${machines[@]}"; do
    remote "$machine" '! pgrep -x worker && ! ls -d /opt/teamster/[0-9]* /opt/teamster/current ~/teamster' 2>/dev/null ||
        fail "something is left on $machine"
done
step "all as it should be"
