#!/bin/sh
# Checks what cluster.sh would do without doing it: every call of az by the Azure CLI's own parser of
# arguments, the cloud-init documents by cloud-init's schema, and the scripts by shellcheck.
#
# Needs Debian's packages cloud-init and shellcheck, and a Python with azure-cli:
#   python3 -m venv VENV && VENV/bin/pip install azure-cli && PYTHON=VENV/bin/python deploy/azure/check.sh
set -eu
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

for workers in 1 2 12; do
    WORKERS=$workers ./cluster.sh up --dry-run
done >"$scratch/calls"
./cluster.sh status --dry-run >>"$scratch/calls"
./cluster.sh down --dry-run >>"$scratch/calls"
"${PYTHON:-python3}" check_az.py <"$scratch/calls"

for role in head worker; do
    ./cluster.sh cloud-init $role >"$scratch/$role.yaml"
    # As root it wants to look at this machine's data as well, which has nothing to do with it.
    cloud-init schema --config-file "$scratch/$role.yaml"
    # What arrives is the unit as it is here.
    python3 - "$scratch/$role.yaml" "../systemd/teamster-$role@.service" <<'END'
import sys, yaml
written = yaml.safe_load(open(sys.argv[1]))["write_files"][0]["content"]
assert written == open(sys.argv[2]).read(), sys.argv[2]
END
done
shellcheck ./*.sh ../*.sh ../systemd/*.sh
