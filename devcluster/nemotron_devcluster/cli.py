"""Start, stop and inspect the local cluster from the command line."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from nemotron_devcluster import machine, project_images, registry_images
from nemotron_devcluster.cluster import Cluster
from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.gpu import DEFAULT_PRODUCT, PRODUCTS, Gpus
from nemotron_devcluster.home import home
from nemotron_devcluster.status import describe


def up(arguments: argparse.Namespace) -> None:
    cluster = Cluster(home())
    with machine.exclusively():
        gpus = None if arguments.gpus is None else Gpus(arguments.gpus, arguments.gpu_product)
        cluster.up(arguments.nodes, gpus)
    print(f"export KUBECONFIG={cluster.home.kubeconfig} PATH={cluster.home.bin}:$PATH")


def down(arguments: argparse.Namespace) -> None:
    with machine.exclusively():
        Cluster(home()).down()


def images(arguments: argparse.Namespace) -> None:
    cluster = Cluster(home())
    built = [project_images.operator(cluster.home), project_images.backend(cluster.home)]
    with machine.exclusively():
        cluster.add_images(built)
    print("\n".join(image.reference for image in built))


def load(arguments: argparse.Namespace) -> None:
    """Archives are imported as they are; other names are images of buildah's."""
    cluster = Cluster(home())
    with machine.exclusively(), tempfile.TemporaryDirectory(dir=cluster.home.root) as folder:
        for name in arguments.images:
            archive = Path(name)
            if not archive.exists():
                archive = registry_images.save(name, Path(folder))
            cluster.load([archive])


def status(arguments: argparse.Namespace) -> None:
    print(describe(Cluster(home())))


def kubeconfig(arguments: argparse.Namespace) -> None:
    cluster = Cluster(home())
    if not cluster.home.kubeconfig.exists():
        raise ClusterError("no cluster is up: run `make cluster-up`")
    print(cluster.home.kubeconfig)


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(prog="nemotron-devcluster", description=__doc__)
    commands = main_parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("up", help="start what does not run yet; a second or two when everything does")
    command.add_argument(
        "--nodes", type=int, default=os.environ.get("NODES") or None, help="default: as it is, at first 1"
    )
    command.add_argument(
        "--gpus", type=int, default=os.environ.get("GPUS") or None, help="pretended GPUs per node; default: as it is"
    )
    command.add_argument("--gpu-product", choices=PRODUCTS, default=os.environ.get("GPU_PRODUCT") or DEFAULT_PRODUCT)
    command.set_defaults(run=up)
    command = commands.add_parser("load", help="import image archives, or images buildah made, on every node")
    command.add_argument("images", nargs="+", metavar="IMAGE")
    command.set_defaults(run=load)
    for name, run, text in (
        ("down", down, "stop everything and leave the machine as it was"),
        ("images", images, "give the nodes this working copy's images and print their references"),
        ("status", status, "nodes, processes, whose cluster it is"),
        ("kubeconfig", kubeconfig, "print the path of the admin's kubeconfig"),
    ):
        commands.add_parser(name, help=text).set_defaults(run=run)
    return main_parser


def main() -> None:
    arguments = parser().parse_args()
    try:
        arguments.run(arguments)
    except ClusterError as error:
        sys.exit(f"nemotron-devcluster: {error}")


if __name__ == "__main__":
    main()
