#!/usr/bin/env bash
# Trains on two nodes of eight GPUs, until it is done, however often SLURM takes them away:
#
#     sbatch examples/slurm_two_nodes.sh all --shards /data/ucf101 --out /shared/runs/ucf101
#
# The arguments are those of `tb train`. All nodes must see the shards and the work folder.
#SBATCH --job-name=timebalance
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120

set -euo pipefail

# srun starts one process for each GPU, and tells it its rank. Two minutes before the time limit, and
# before a preemption, they get SIGTERM. They save, and exit with 143. The same command goes on from
# there. If one process fails, the others are ended after ten minutes.
code=0
srun --wait=600 tb train "$@" || code=$?
if [ "$code" -eq 143 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
