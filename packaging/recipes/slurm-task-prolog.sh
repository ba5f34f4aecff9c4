#!/bin/sh
# For slurm.conf: TaskProlog=/etc/slurm/slurm-task-prolog.sh. It runs before each task of each job, as its user and in its
# environment, and Slurm takes what it prints into the task's environment. mrlock is installed on all nodes.
#
# Without it, for one job: srun mrlock run --gpu COMMAND. Or, for the programs that COMMAND starts on other nodes, too:
# srun --export=ALL,LD_PRELOAD="$(mrlock path)",MRLOCK_MEMORY=device COMMAND
variables=$(mrlock env --gpu) || exit
eval "$variables"
# Slurm takes quotes for a part of the value.
echo "export LD_PRELOAD=$LD_PRELOAD"
echo "export MRLOCK_MEMORY=$MRLOCK_MEMORY"
