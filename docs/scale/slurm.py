"""Label on a Slurm cluster: workers are started by dask-jobqueue, the set is written here.

    pip install 'moe-mheight[dask]' dask-jobqueue
    python slurm.py many-codes

Run it on a login node, or as a small job of its own. When it is interrupted, or its time is up: the same again.
"""

import sys
from pathlib import Path

from dask_jobqueue import SLURMCluster

from moe_mheight._parallel import workers
from moe_mheight.data.generate import generate_set, parse_groups


def main(out: str) -> None:
    with SLURMCluster(
        queue="normal",  # yours
        cores=32,  # of a job
        processes=32,  # workers of one thread each
        memory="32GB",  # of a job; a worker needs less than 1 GB
        walltime="04:00:00",
        worker_extra_args=["--lifetime", "230m", "--lifetime-stagger", "5m"],  # leave in good time
    ) as cluster:
        cluster.adapt(minimum_jobs=1, maximum_jobs=32)  # as many as Slurm gives
        with workers(1024, scheduler=cluster.scheduler_address):  # as many pieces at a time as workers may come
            generate_set(Path(out), parse_groups("n21"), 50_000_000, "scaled-integer", seed=0)


if __name__ == "__main__":
    main(sys.argv[1])
