#!/usr/bin/env bash
# One machine with several GPUs: one process on each. From the repository's root:
#
#   recipes/launch/one_node.sh recipes/latbot/1_lam_pretrain.yaml
#   GPUS=4 recipes/launch/one_node.sh recipes/latbot/2_distill.yaml --loop.accumulate 2
#
# How the model lies on them is the recipe's business (`parallel.kind: ddp | fsdp | deepspeed`). Started again after an
# interruption, the same line goes on from the last checkpoint.
set -euo pipefail

if [ $# -lt 1 ]; then
  echo "usage: $0 RECIPE.yaml [--field value ...]" >&2
  exit 2
fi
gpus=${GPUS:-$(nvidia-smi --list-gpus | wc -l)}
# Each process decodes video in threads of its own; the default of one thread a process starves the step.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) / gpus > 0 ? $(nproc) / gpus : 1))}
exec torchrun --standalone --nproc-per-node "$gpus" -m -- recipes.cli run "$@"
