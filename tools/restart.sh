#!/usr/bin/env bash
# Starts a command again until it ends with status 0, finished, or 2, a mistake that no other try would mend:
#
#   tools/restart.sh python train_tfrecords.py --recipe gpt2-fineweb-edu --model_dir gs://my-bucket/runs/gpt2 ...
#
# Every other status starts it again: 75 after a signal, when the run has saved; 1, when it could not go on; 137, when it
# was killed. The first wait takes RESTART_SECONDS. It doubles, up to RESTART_MOST_SECONDS, with each try that ends
# sooner than after RESTART_HEALTHY_SECONDS; a longer one, or status 75, makes it short again.
#
# SIGTERM, SIGINT and SIGHUP stop the loop. The command gets SIGTERM, once, and its status is the loop's.
set -u -m # -m gives the command a process group of its own, or Ctrl-C would reach it twice and it would not save.

first=${RESTART_SECONDS:-10}
most=${RESTART_MOST_SECONDS:-600}
healthy=${RESTART_HEALTHY_SECONDS:-300}
stopped=
handed_on=

if (($# == 0)); then
    echo "error: restart.sh needs the command that it is to run, and none was given." >&2
    exit 2
fi

# shellcheck disable=SC2329 # The traps call it.
hand_on() {
    stopped=yes interrupted=yes
    kill -TERM %% 2>/dev/null && handed_on=yes
}
trap hand_on TERM INT HUP

# Runs a command and leaves its status in `status`. A signal ends `wait` before the command has ended.
supervise() {
    "$@" &
    [[ -n $stopped && -z $handed_on ]] && kill -TERM %% # The signal came before there was anything to hand it to.
    interrupted=yes
    while [[ -n $interrupted ]]; do
        interrupted=
        wait "$!"
        status=$?
    done
}

delay=$first
last=143
while [[ -z $stopped ]]; do
    began=$SECONDS
    supervise "$@"
    last=$status
    ((last == 0 || last == 2)) && break
    [[ -n $stopped ]] && break
    lasted=$((SECONDS - began))
    ((last == 75 || lasted >= healthy)) && delay=$first
    echo "restart.sh: status $last after $lasted s, again in $delay s" >&2
    supervise sleep "$delay"
    delay=$((delay * 2 < most ? delay * 2 : most))
done
exit "$last"
