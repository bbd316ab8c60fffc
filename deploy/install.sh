#!/bin/sh
# The other half of deploy/push.sh: runs on a worker, in the folder that was sent there.
#
# A release is a number and a folder of its own: program, key, options. So the next can start while
# the last one drains, and the last one can start again if the next does not.
set -eu

say() { echo "$*"; }

fail() {
    echo "error: $*"
    exit 1
}

if [ -d /run/systemd/system ]; then
    [ "$(id -u)" = 0 ] || {
        sudo -n true 2>/dev/null || fail "with systemd this needs root, or sudo without a password"
        exec sudo -n sh ./install.sh "$@"
    }
    base=/opt/teamster
    by="systemd"
    unit() { echo "teamster-worker@$1.service"; }
    prepare() {
        install -m 644 teamster-worker@.service /etc/systemd/system/
        systemctl daemon-reload
    }
    is_up_to_date() { cmp -s teamster-worker@.service /etc/systemd/system/teamster-worker@.service; }
    is_running() { systemctl --quiet is-active "$(unit "$1")"; }
    # Returns once it listens. It is tried more than once: its port may be in use for another moment.
    start() { systemctl --quiet start "$(unit "$1")" && systemctl --quiet enable "$(unit "$1")"; }
    start_later() { systemctl --quiet enable --now --no-block "$(unit "$1")"; }
    # Does not wait for what runs.
    drain() { systemctl --quiet disable "$(unit "$1")" && systemctl --no-block stop "$(unit "$1")"; }
    said() { journalctl --no-pager --lines 5 --output cat --unit "$(unit "$1")"; }
    clear() {
        rm -f /etc/systemd/system/teamster-worker@.service
        systemctl daemon-reload
    }
else
    base=$HOME/teamster
    by="no systemd: until the next boot, log in $base/log"
    prepare() { :; }
    is_up_to_date() { :; }
    # The process may be long gone, and its number another's.
    is_running() {
        pid=$(cat "$base/$1/pid" 2>/dev/null) && exe=$(readlink "/proc/$pid/exe") &&
            [ "${exe% (deleted)}" = "$(readlink -f "$base/$1/worker")" ]
    }
    start() (
        OPTIONS=$(sed -n 's/^OPTIONS=//p' "$base/$1/worker.env")
        # shellcheck disable=SC2086 # options, split at blanks as systemd does
        setsid "$base/$1/worker" --key-file "$base/$1/key" $OPTIONS \
            </dev/null >"$base/$1/out" 2>>"$base/log" &
        echo $! >"$base/$1/pid"
        until grep -q '^Listening' "$base/$1/out"; do
            kill -0 $! 2>/dev/null || return 1
            sleep 0.1
        done
    )
    start_later() { start "$1"; }
    drain() { ! is_running "$1" || kill "$(cat "$base/$1/pid")"; }
    said() { tail -n 5 "$base/log"; }
    clear() { :; }
fi

old=$(readlink "$base/current" 2>/dev/null || true)

remove() {
    [ -n "$old" ] || {
        say "there is no worker"
        exit
    }
    drain "$old"
    clear
    # In a folder that may also hold the head's program.
    rm -rf "$base"/[0-9]* "$base/current" "$base/log"
    rmdir "$base" 2>/dev/null || :
    say "release $old is removed; what it runs has 30 s to finish"
}

is_the_same() {
    is_up_to_date || return 1
    for file in worker key worker.env; do
        cmp -s "$file" "$base/$old/$file" || return 1
    done
}

# Puts the release into its folder. Only the worker's program is for everybody.
lay_out() {
    rm -rf "${base:?}/$1"
    mkdir -p "$base/$1"
    chmod 755 "$base" "$base/$1"
    install -m 755 worker "$base/$1/"
    install -m 600 key worker.env "$base/$1/"
    "$base/$1/worker" --version >/dev/null || fail "the program does not run on this machine"
    prepare
}

start_or_return_to_old() {
    tries=5
    until start "$1" 2>/dev/null; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || {
            said "$1"
            drain "$1"
            [ -z "$old" ] || {
                ln -sfn "$old" "$base/current"
                start_later "$old"
            }
            fail "release $1 does not start${old:+; back to release $old}"
        }
        sleep 1
    done
}

case $1 in
remove) remove ;;
install)
    if [ -n "$old" ] && is_the_same && is_running "$old"; then
        say "nothing new: release $old runs ($by)"
        exit
    fi
    new=$((${old:-0} + 1))
    lay_out "$new"
    [ -z "$old" ] || drain "$old"
    # From here on a push that is cut short is made up for by the next.
    ln -sfn "$new" "$base/current"
    start_or_return_to_old "$new"
    say "release $new runs ($by)${old:+; release $old finishes what it has begun}"
    for release in "$base"/[0-9]*; do
        case ${release##*/} in "$new" | "$old") ;; *) rm -rf "$release" ;; esac
    done
    ;;
esac
