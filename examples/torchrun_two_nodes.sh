#!/usr/bin/env bash
# Trains on several machines with torchrun. Run the same command on each of them:
#
#     examples/torchrun_two_nodes.sh node0 all --shards /data/ucf101 --out /shared/runs/ucf101
#
# The first argument is the name of one of these machines, where all of them meet. The others are those
# of `tb train`. All machines must see the shards and the work folder. The same command goes on after an
# interruption. Three variables of the environment change the size and the place:
#
#     NUM_NODES            how many machines; 2 by default
#     PROCESSES_PER_NODE   a number; by default "gpu", one for each GPU
#     PORT                 the port of the first machine where all of them meet; 29500 by default

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
