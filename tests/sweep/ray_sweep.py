"""Sweep on a Ray cluster of two raylets of this machine, one of which dies in the middle.

Run as a process of its own, with the world's folder and the output: Ray's processes end with it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ray.cluster_utils import Cluster
from sweeping import DENSE, recipe_of, without_figures

from mergekit_audio.sweep import sweep

STORE_BYTES = 100 * 2**20


def main(root: Path, output: Path) -> None:
    common = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=common)
    other = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    arrived: list[str] = []

    def kill_in_the_middle(event):
        if event.task == "probe" and ", seed" in event.note:
            arrived.append(event.note)
            if len(arrived) == 3:
                other.kill_raylet(check_alive=False)

    with without_figures():
        sweep(
            recipe_of(root, DENSE, "ray"),
            root,
            output=output,
            executor="ray",
            address=cluster.address,
            progress=kill_in_the_middle,
        )
    print("arrived", len(arrived))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
