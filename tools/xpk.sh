#!/usr/bin/env bash
# Hands training to a GKE cluster with xpk, on one host, as tools/gke-job.yaml does with Kubernetes alone:
#
#   tools/xpk.sh --recipe gpt2-fineweb-edu --train_path gs://my-bucket/records --model_dir gs://my-bucket/runs/gpt2 ...
#
# Environment: CLUSTER, ZONE, PROJECT, IMAGE (made from tools/Dockerfile), WORKLOAD (a name), and TPU_TYPE.
set -eu
for name in CLUSTER ZONE PROJECT IMAGE; do
    [[ -n ${!name-} ]] && continue
    echo "error: the environment variable $name must be set, and it is not: see the head of $0." >&2
    exit 2
done
command=(tools/restart.sh python train_tfrecords.py --tpu local "$@")
# A lost host is replaced --max-restarts times. What the loop ends with, 0 or 2, is final, so user code is not restarted.
exec xpk workload create --workload="${WORKLOAD:-algpt2}" --cluster="$CLUSTER" --zone="$ZONE" --project="$PROJECT" \
    --tpu-type="${TPU_TYPE:-v5litepod-8}" --docker-image="$IMAGE" --max-restarts=50 \
    --termination-grace-period-seconds=120 --command="${command[*]@Q}"
