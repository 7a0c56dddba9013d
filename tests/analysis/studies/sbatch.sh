#!/bin/bash

# Parameters
#SBATCH --array=0-2%2
#SBATCH --cpus-per-task=2
#SBATCH --error=PLACE/study/logs/slurm/%A_%a_0_log.err
#SBATCH --gpus-per-node=1
#SBATCH --job-name=study
#SBATCH --mem=4GB
#SBATCH --nodes=1
#SBATCH --open-mode=append
#SBATCH --output=PLACE/study/logs/slurm/%A_%a_0_log.out
#SBATCH --partition=short
#SBATCH --signal=USR2@90
#SBATCH --time=90
#SBATCH --wckey=submitit

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output PLACE/study/logs/slurm/%A_%a_%t_log.out --error PLACE/study/logs/slurm/%A_%a_%t_log.err PYTHON -u -m submitit.core._submit PLACE/study/logs/slurm
