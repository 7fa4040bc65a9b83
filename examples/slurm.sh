#!/usr/bin/env bash
# Train on several machines under Slurm:
#
#     sbatch --nodes 4 examples/slurm.sh emoji-32 --out /shared/runs/x
#
# What follows the script's name is what follows `snrise train`. The same command goes on where the run stopped.

#SBATCH --job-name=snrise
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1         # one torchrun for each machine; it starts a process for each GPU
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64          # for all processes of the machine, and for reading data
#SBATCH --time=24:00:00
#SBATCH --requeue                   # queued again, from the start of this script, if a machine fails or is taken away
#SBATCH --signal=B:TERM@120         # SIGTERM to this script 120 s before the time is over: enough to save
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append          # one file for all starts of the job

set -euo pipefail

# Where the run is, with --out, and where the data are: on a file system that all machines see.
# Before preemption Slurm sends the signal above too where its PreemptParameters have send_user_signal; elsewhere the run
# goes on from the last checkpoint that log.checkpoint made.

# The machine of the batch script is the first of the list. There the torchruns meet, on a port that is the job's own.
mapfile -t machines < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export ENDPOINT="${machines[0]}:$((20000 + SLURM_JOB_ID % 20000))"

# A start of the job must not meet those that are left of an earlier one.
export RENDEZVOUS="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"

# Where the first torchrun leaves its number: on the first machine, where this script can signal it.
export STARTED
STARTED=$(mktemp -d)
trap 'rm -rf "$STARTED"' EXIT

# A task in each machine. `gpu` is a process for each GPU; PROCESSES=2 is for machines without. A worker that fails is
# started again with all others, three times in all, from the last checkpoint. `is_host` says who keeps the rendezvous,
# whatever name the first machine has for itself.
task='
    if [ "$SLURM_NODEID" = 0 ]; then host=true; echo $$ > "$STARTED/torchrun"; else host=false; fi
    exec python -m torch.distributed.run --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "${PROCESSES:-gpu}" \
        --max-restarts 3 --rdzv-backend c10d --rdzv-endpoint "$ENDPOINT" --rdzv-id "$RENDEZVOUS" \
        --rdzv-conf "is_host=$host" -m snrise train "$@"
'

# A torchrun that ends in failure ends the others: they could not go on without it.
srun --kill-on-bad-exit=1 bash -c "$task" task "$@" &
step=$!

# One process that is told to stop saves, and all stop after the same step. Only the first torchrun is told: with
# `scancel --signal` its workers would get the signal twice, which stops at once and saves nothing.
stopped=
stop() {
    stopped=yes
    kill -TERM "$(cat "$STARTED/torchrun" || echo "$step")"
}
trap stop TERM

# A signal ends `wait` early, so it is asked again until the step has ended.
status=0
while kill -0 "$step" 2> /dev/null; do
    status=0
    wait "$step" || status=$?
done

# Stopped by its time or by preemption, the job is queued again; `scancel` of the job ends it for good.
if [ -n "$stopped" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
