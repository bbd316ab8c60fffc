#!/bin/sh
# The three virtual machines of a cluster in Azure, and the network between them.
set -eu

# What may be changed, from the environment. The B series of the first generation is being retired:
# Standard_B2ts_v2 and Standard_B2ats_v2 have 1 GiB, too, and two processors.
group=${GROUP:-cluster-rg}
region=${REGION:-westeurope}
size=${SIZE:-Standard_B1s}
workers=${WORKERS:-2}
user=${ADMIN:-azureuser}
ssh_key=${SSH_KEY:-$HOME/.ssh/id_ed25519.pub}
ssh_from=${SSH_FROM:-Internet}
port=5000

usage() {
    cat <<END
Usage: deploy/azure/cluster.sh up|status|down [--dry-run]
       deploy/azure/cluster.sh cloud-init head|worker
  up          makes what is not there: project-head (10.0.0.10, with a public address) and worker-1,
              worker-2, ... (10.0.0.11, ..., without); port $port of the workers is the head's alone
  status      says which machines there are and what state they are in
  down        deletes the resource group with all that is in it; az asks first
  cloud-init  prints what a machine is given at its first boot: the unit, neither program nor key
  --dry-run   prints the calls of az instead
Variables, and what they are now:
  GROUP=$group REGION=$region SIZE=$size WORKERS=$workers ADMIN=$user
  SSH_KEY=$ssh_key   the public key that may log in
  SSH_FROM=$ssh_from   where from, as in 203.0.113.7/32
Needs the Azure CLI, logged in (az login). Afterwards: deploy/push.sh.
END
}

fail() {
    echo "cluster.sh: $*" >&2
    exit 2
}

systemd=$(cd "$(dirname "$0")/../systemd" && pwd)
dry_run=false

# Runs az, or prints the call so that a shell would read it back as it is.
az() {
    if $dry_run; then
        printf 'az'
        for word in "$@"; do
            case $word in
            '' | *[!A-Za-z0-9_.,:/=+-]*) printf " '%s'" "$word" ;;
            *) printf ' %s' "$word" ;;
            esac
        done
        echo
    else
        command az "$@"
    fi
}

# Everybody logged in at a machine in the cloud can ask for its custom data.
cloud_init() {
    unit=teamster-$1@.service
    printf '%s\n' '#cloud-config' 'write_files:' "  - path: /etc/systemd/system/$unit" \
        '    permissions: "0644"' '    content: |'
    sed 's/^\(..*\)/      \1/' "$systemd/$unit"
}

# NAME, PRIORITY, ACCESS, SOURCE, DESTINATION, PORT. Azure's own rules come after these; one of them
# lets the whole network reach every port, and the last one nobody else anything.
rule() {
    az network nsg rule create --resource-group "$group" --nsg-name cluster-nsg --name "$1" \
        --priority "$2" --direction Inbound --access "$3" --protocol Tcp \
        --source-address-prefixes "$4" --source-port-ranges '*' \
        --destination-address-prefixes "$5" --destination-port-ranges "$6" --output none
}

# NAME, ADDRESS, ROLE, and further options. One that is there stays as it is: what it was given at its
# first boot cannot be changed.
machine() {
    name=$1 address=$2 role=$3
    shift 3
    ! printf '%s\n' "$there" | grep -qx "$name" || return 0
    cloud_init "$role" >"$scratch/$role.yaml"
    az vm create --resource-group "$group" --name "$name" --location "$region" --size "$size" \
        --image Ubuntu2204 --admin-username "$user" --authentication-type ssh \
        --ssh-key-values "$ssh_key" --vnet-name cluster-vnet --subnet cluster-subnet \
        --private-ip-address "$address" --nsg '' --custom-data "$scratch/$role.yaml" \
        --output none "$@"
}

up() {
    case $workers in
    '' | 0* | *[!0-9]* | ????*) fail "WORKERS is a number from 1 to 200" ;;
    esac
    [ "$workers" -le 200 ] || fail "WORKERS is 200 at most: the subnet has no more addresses"
    $dry_run || [ -r "$ssh_key" ] || fail "cannot read $ssh_key: ssh-keygen makes one, or set SSH_KEY"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    az group create --name "$group" --location "$region" --output none
    az network nsg create --resource-group "$group" --name cluster-nsg --location "$region" \
        --output none
    rule ssh-to-head 100 Allow "$ssh_from" 10.0.0.10/32 22
    rule head-to-workers 110 Allow 10.0.0.10/32 10.0.0.0/24 $port
    rule nobody-else-to-workers 120 Deny VirtualNetwork 10.0.0.0/24 $port
    az network vnet create --resource-group "$group" --name cluster-vnet --location "$region" \
        --address-prefixes 10.0.0.0/16 --output none
    # Without a public address a machine here reaches nothing outside. New networks are so by default.
    az network vnet subnet create --resource-group "$group" --vnet-name cluster-vnet \
        --name cluster-subnet --address-prefixes 10.0.0.0/24 \
        --network-security-group cluster-nsg --default-outbound-access false --output none
    there=''
    $dry_run || there=$(az vm list --resource-group "$group" --query '[].name' --output tsv)
    machine project-head 10.0.0.10 head --public-ip-address project-head-ip --public-ip-sku Standard
    for number in $(seq "$workers"); do
        machine "worker-$number" "10.0.0.$((10 + number))" worker --public-ip-address '' --no-wait
    done
    for number in $(seq "$workers"); do
        az vm wait --resource-group "$group" --name "worker-$number" --created --output none
    done
    status
}

status() {
    az vm list --resource-group "$group" --show-details --output table --query \
        '[].{name:name, state:powerState, size:hardwareProfile.vmSize, private:privateIps, public:publicIps}'
}

down() {
    az group delete --name "$group"
}

command=${1:-} argument=${2:-}
case $argument in
'' | head | worker) ;;
--dry-run) dry_run=true ;;
*) fail "there is no $argument; see --help" ;;
esac
case $command in
up | status | down) $command ;;
cloud-init) cloud_init "${argument:?head or worker}" ;;
-h | --help) usage ;;
*)
    usage >&2
    exit 2
    ;;
esac
