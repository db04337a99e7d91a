#!/usr/bin/env bash
# Creates a TPU VM or a slice of several, installs on every host, and trains; docs/guide/tpu.md says the rest.
#
#   tools/tpu_vm.sh create               a TPU at once, or an error if none is free
#   tools/tpu_vm.sh request              the same as a queued resource; waits, and replaces what was taken away
#   tools/tpu_vm.sh install              the repository and the extra `tpu`, on every host that lacks them
#   tools/tpu_vm.sh run all COMMAND...   runs a command on every host, or with a number on that one
#   tools/tpu_vm.sh train FLAGS...       on one host: `request`, `install`, then train_tfrecords.py --tpu local FLAGS
#   tools/tpu_vm.sh train-slice FLAGS... on the first of several hosts: the same with --tpu $TPU_NAME
#   tools/tpu_vm.sh stop                 the training saves and ends; end the loop on this side of it first
#   tools/tpu_vm.sh delete               the queued resource and its TPU
#
# Training goes on if this connection breaks, and the same command joins it. So this one survives everything:
#
#   tools/restart.sh tools/tpu_vm.sh train --recipe gpt2-fineweb-edu ...
#
# Environment: TPU_NAME, ZONE, ACCELERATOR_TYPE, RUNTIME_VERSION, REPOSITORY (an address for `git clone`), and SPOT=no for
# a TPU that is not taken away.
set -eu

# Ends with status 2, which tools/restart.sh does not try again, unless all of these variables are set.
need() {
    for name in "$@"; do
        [[ -n ${!name-} ]] && continue
        echo "error: the environment variable $name must be set, and it is not: see the head of $0." >&2
        exit 2
    done
}

need TPU_NAME ZONE
request_name=$TPU_NAME-request
poll_seconds=${POLL_SECONDS:-30}

tpu_vm() { gcloud compute tpus tpu-vm "$1" "$TPU_NAME" --zone="$ZONE" "${@:2}"; }
queued_resource() { gcloud compute tpus queued-resources "$1" "$request_name" --zone="$ZONE" "${@:2}"; }

# Prints the state, or nothing where there is none of that name.
state_of_tpu() { tpu_vm describe --format='value(state)' 2>/dev/null || true; }
state_of_request() { queued_resource describe --format='value(state.state)' 2>/dev/null || true; }

create() {
    need ACCELERATOR_TYPE RUNTIME_VERSION
    tpu_vm create --accelerator-type="$ACCELERATOR_TYPE" --version="$RUNTIME_VERSION" "${spot[@]}"
}
delete() { queued_resource delete --force --quiet; }
ask() {
    queued_resource create --node-id="$TPU_NAME" --accelerator-type="$ACCELERATOR_TYPE" \
        --runtime-version="$RUNTIME_VERSION" "${spot[@]}"
}
spot=(--spot)
[[ ${SPOT:-yes} == no ]] && spot=()

request() {
    need ACCELERATOR_TYPE RUNTIME_VERSION
    while tpu=$(state_of_tpu) && [[ $tpu != READY ]]; do
        case $(state_of_request)/$tpu in
            /*) ask ;;
            FAILED/*)
                echo "error: the request $request_name has failed: see why with \`gcloud compute tpus queued-resources" \
                    "describe\`, and run \`tools/tpu_vm.sh delete\`." >&2
                exit 2
                ;;
            SUSPENDED/* | ACTIVE/PREEMPTED) delete ;;
            *) echo "tpu_vm.sh: waiting for $TPU_NAME" >&2 ;;
        esac
        sleep "$poll_seconds"
    done
}

on() { tpu_vm ssh --worker="$1" --command="$2"; }

install() {
    need REPOSITORY
    on all "test -e algpt2/.venv/installed || {
        { test -d algpt2 || git clone ${REPOSITORY@Q} algpt2; } && cd algpt2 && python3 -m venv .venv &&
        .venv/bin/pip install -c constraints.txt -e '.[tpu]' && touch .venv/installed; }"
}

# Trains on the first host, with the variables before `--` in the environment and the flags behind it.
train() {
    local environment=()
    while [[ $1 != -- ]]; do
        environment+=("$1")
        shift
    done
    need REPOSITORY
    request
    install
    local command=(env "${environment[@]}" tools/detached.sh tools/restart.sh
        .venv/bin/python train_tfrecords.py "${@:2}")
    on 0 "cd algpt2 && ${command[*]@Q}"
}

# Signals the loop around the trainer on the first host, which hands the signal on.
# shellcheck disable=SC2016 # The host expands it.
stop() { on 0 'kill "$(cat algpt2/detached/pid)"'; }

case ${1-} in
    create | request | install | stop | delete) "$1" ;;
    run) on "${2-all}" "${*:3}" ;;
    train) train -- --tpu local "${@:2}" ;;
    train-slice) train "TPU_NAME=$TPU_NAME" TPU_LOAD_LIBRARY=0 -- --tpu "$TPU_NAME" "${@:2}" ;;
    *)
        sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
        exit 2
        ;;
esac
