"""Carry out a plan's actions, writing only what is not so already."""

from collections.abc import Callable, Iterable, Mapping

from nemotron_api import names
from nemotron_operator.cluster import Cluster
from nemotron_operator.objects import Manifest, Ref, is_satisfied, with_hash
from nemotron_operator.observed import Child
from nemotron_operator.plan import Action, Apply, Create, Delete
from nemotron_operator.store import Store


class Leftover(Exception):
    """An object of a deployment that is gone and had this one's name; the garbage collector is about to remove it."""


async def carry_out(
    actions: Iterable[Action], store: Store, cluster: Cluster, learn: Callable[[Manifest], None]
) -> tuple[Ref, ...]:
    """Do what is left to do; names that belong to somebody else are returned, and then nothing at all was written.

    Args:
        learn: hears of every object as it is once it was written; the watch's word of it will be no news.

    Raises:
        Leftover: an object must go before ours can come; try again soon.
    """
    pending = [action for action in actions if not _is_done(action, store)]
    if taken := [ref for action in pending if (ref := await _taken(action, store, cluster))]:
        return tuple(taken)
    for action in pending:
        match action:
            case Apply(manifest):
                learn(await cluster.apply(with_hash(manifest)))
            case Create(manifest):
                if made := await cluster.create(manifest):
                    learn(made)
            case Delete(ref):
                await cluster.delete(ref)
    return ()


def _is_done(action: Action, store: Store) -> bool:
    match action:
        case Create(manifest):
            return store.knows(Ref.of(manifest))
        case Apply(manifest):
            child = store.child(Ref.of(manifest))
            return child is not None and _is_applied(manifest, child)
        case Delete(_):
            return False


def _is_applied(manifest: Manifest, child: Child) -> bool:
    """The hash says it was applied; the comparison says nobody changed it since."""
    wanted, live = with_hash(manifest), child.live
    annotations = live["metadata"].get("annotations", {})
    return annotations.get(names.APPLIED_HASH) == wanted["metadata"]["annotations"][names.APPLIED_HASH] and (
        is_satisfied(wanted, live)
    )


async def _taken(action: Action, store: Store, cluster: Cluster) -> Ref | None:
    """The name this action needs, if an object that is not ours has it. Objects nobody owns are shared, never taken."""
    if isinstance(action, Delete) or "ownerReferences" not in action.manifest["metadata"]:
        return None
    ref = Ref.of(action.manifest)
    owner = action.manifest["metadata"]["ownerReferences"][0]
    known = store.child(ref)
    if known and known.owner == owner["uid"]:
        return None
    live = await cluster.get(ref)
    if live is None:
        return None
    controller: Mapping[str, str] = next(
        (o for o in live["metadata"].get("ownerReferences", ()) if o.get("controller")), {}
    )
    if controller.get("uid") == owner["uid"]:
        return None
    if controller.get("kind") == owner["kind"] and controller.get("name") == owner["name"]:
        raise Leftover(f"{ref} belongs to a deleted {owner['kind']} of the same name")
    return ref
