"""Say in a few lines what of the local cluster runs."""

from nemotron_devcluster import machine
from nemotron_devcluster.cluster import Cluster


def describe(cluster: Cluster) -> str:
    """Whose cluster is up, its nodes, and every process that is dead but should not be."""
    owner = machine.owner()
    if owner is None:
        return "down: `make cluster-up` starts a cluster"
    known, running = cluster.processes.known(), cluster.processes.running()
    lines = [f"up, started from {owner.clone}", f"kubeconfig  {cluster.home.kubeconfig}"]
    lines += [f"{node.name}       {'on' if node.is_on else 'off'}" for node in cluster.nodes()]
    lines += [f"processes   {len(running)} of {len(known)} run"]
    lines += [f"dead        {name}: see {cluster.processes.log(name)}" for name in known if name not in running]
    return "\n".join(lines)
