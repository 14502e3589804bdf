#!/usr/bin/env bash
# Trains on several machines with torchrun. Run the same command on each of them:
#
#     examples/torchrun_two_nodes.sh node0 all --shards /data/ucf101 --out /work/runs/ucf101
#
# The first argument is the name of one of these machines, where all of them meet. The others are those
# of `tb train`. All machines must see the shards and the work folder. The same command goes on after an
# interruption. Two variables change the size:
#
#     NUM_NODES            the machines; 2 by default
#     PROCESSES_PER_NODE   "gpu", one for each GPU, by default; or a number

set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 HOST STAGE --shards SHARDS --out WORK [...]" >&2
    exit 2
fi
host=$1
shift
exec torchrun --nnodes "${NUM_NODES:-2}" --nproc-per-node "${PROCESSES_PER_NODE:-gpu}" \
    --rdzv-backend c10d --rdzv-endpoint "$host:${PORT:-29500}" --rdzv-id timebalance \
    -m tb.cli train "$@"
