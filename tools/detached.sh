#!/usr/bin/env bash
# Runs a command that outlives the connection from which it was started, prints its output, and ends with its status:
#
#   tools/detached.sh tools/restart.sh .venv/bin/python train_tfrecords.py ...
#
# While the command runs, the same call does not start it twice: it joins, and prints the output from its beginning.
# In the folder DETACHED are the output, the command's process ID (`pid`) while it runs, and then its `status`. Whether it
# runs is told by the lock there, which no kill and no reboot leaves behind.
set -eu
folder=${DETACHED:-detached}
mkdir -p "$folder"

exec 9>>"$folder/lock"
if flock --nonblock 9; then
    rm -f "$folder/status"
    : >"$folder/output"
    # The shell between holds the lock (9) and the command does not, so that nothing that it leaves behind can hold it.
    # shellcheck disable=SC2016 # That shell expands it.
    setsid bash -c 'folder=$1; shift
        (echo "$BASHPID" >"$folder/pid" && exec "$@" 9>&-)
        echo $? >"$folder/status"; rm "$folder/pid"' bash "$folder" "$@" \
        </dev/null >>"$folder/output" 2>&1 &
else
    echo "detached.sh: joining what runs already" >&2
fi
exec 9>&-

# The lock can be had when the command has ended, and then `tail` ends with what waited for it.
flock "$folder/lock" true &
tail --lines=+1 --follow --pid=$! "$folder/output"
if [[ ! -e $folder/status ]]; then
    echo "detached.sh: the command was killed before it could leave its status" >&2
    exit 137
fi
exit "$(<"$folder/status")"
