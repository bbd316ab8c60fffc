#!/bin/sh
# Brings workers up, or to a new release, over ssh. They need no internet, and nothing installed.
set -eu

usage() {
    cat <<'END'
Usage: deploy/push.sh [OPTIONS] [USER@]HOST...
Sends worker, key and unit to each host and starts the worker there, one host after the other.
Again, with something new, it upgrades: the worker that runs finishes what it has begun while the
next one takes its port. With nothing new it changes nothing.

      --hosts FILE   hosts from a file, one a line; # begins a comment
      --worker FILE  the program (default: dist/worker, as deploy/build.sh makes it)
      --key FILE     what heads and workers share (default: $TEAMSTER_KEY_FILE or /etc/teamster/key)
      --env FILE     options for the worker, as in OPTIONS=--slots 1 (default: none)
      --remove       ends the workers and removes all that this script brought
      --dry-run      says what would be done

Hosts are any Linux that lets you in by ssh without asking: with systemd they need root, or sudo
without a password; without it the worker runs as the user who logs in, until the next boot.
$SSH replaces `ssh -o BatchMode=yes -o ConnectTimeout=10 -o StrictHostKeyChecking=accept-new`, as
in SSH='ssh -J me@head'. A host that is not known yet is taken at its word, once.

Exit codes: 0 all hosts are as wanted, 1 some are not, 2 bad usage.
END
}

fail() {
    echo "push.sh: $*" >&2
    exit 2
}

# Whoever asks for a file that is not there gets to know which, and what to do.
need() {
    [ -r "$1" ] || fail "cannot read $1: $2"
}

here=$(cd "$(dirname "$0")" && pwd)
hosts='' worker=$here/../dist/worker key=${TEAMSTER_KEY_FILE:-/etc/teamster/key} env='' action=install
dry_run=false
while [ $# -gt 0 ]; do
    case $1 in
    --hosts | --worker | --key | --env)
        [ $# -ge 2 ] || fail "$1 wants a FILE"
        need "$2" "is that the $1 you mean?"
        case $1 in
        --hosts) hosts="$hosts $(sed 's/#.*//' "$2" | tr '\n' ' ')" ;;
        --worker) worker=$2 ;;
        --key) key=$2 ;;
        --env) env=$2 ;;
        esac
        shift
        ;;
    --remove) action=remove ;;
    --dry-run) dry_run=true ;;
    -h | --help)
        usage
        exit
        ;;
    -*) fail "there is no option $1; see --help" ;;
    *) hosts="$hosts $1" ;;
    esac
    shift
done
[ -n "${hosts# }" ] || fail "no hosts; see --help"
ssh=${SSH:-ssh -o BatchMode=yes -o ConnectTimeout=10 -o StrictHostKeyChecking=accept-new}

# All that travels is in one folder, and goes as one stream: the key is on no command line.
umask 077
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
trap 'exit 130' INT TERM
cp "$here/install.sh" "$stage/"
if [ $action = install ]; then
    need "$worker" "deploy/build.sh builds it"
    need "$key" "\`head --keygen $key\` makes one"
    cp "$worker" "$stage/worker"
    cp "$key" "$stage/key"
    cp "$here/systemd/teamster-worker@.service" "$stage/"
    if [ -n "$env" ]; then cp "$env" "$stage/worker.env"; else : >"$stage/worker.env"; fi
fi
(cd "$stage" && sha256sum -- * >SHA256SUMS)

# shellcheck disable=SC2016 # for the other side
receive='umask 077; d=$(mktemp -d) && trap "rm -rf $d" EXIT && tar -xf - -C "$d" &&
    cd "$d" && sha256sum -c SHA256SUMS >/dev/null && sh ./install.sh '$action' </dev/null'

failed=''
for host in $hosts; do
    if $dry_run; then
        echo "$host: would run install.sh $action there, out of: $(cd "$stage" && echo *)"
        continue
    fi
    # shellcheck disable=SC2086 # a command with its options
    if said=$(tar -cf - -C "$stage" . | $ssh "$host" "sh -c '$receive'" 2>&1); then
        printf '%s\n' "$said" | sed "s/^/$host: /"
    else
        printf '%s\n' "$said" | sed "s/^/$host: /" >&2
        failed="$failed $host"
    fi
done
[ -z "$failed" ] || {
    echo "push.sh: not as wanted:$failed (the same command does no harm to the others)" >&2
    exit 1
}
