"""What every store promises of the names that owners give their clusters."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.contract.store_samples import make_cluster, make_credentials
from tidegate.model.cluster import ClusterState, Target
from tidegate.model.errors import NameTaken
from tidegate.store.base import Store


async def insert(store: Store, number: int, **values: object) -> object:
    """Record a cluster that is called ``training``."""
    cluster = make_cluster(number, alias="training", **values)
    return await store.insert(cluster, make_credentials(str(number)), [])


async def test_an_owner_has_a_name_once(store: Store):
    """Another of their clusters is refused it, by the name of the one that has it; another owner is not."""
    first = await insert(store, 1)

    with pytest.raises(NameTaken, match=first.name):
        await insert(store, 2)

    assert await store.load(make_cluster(2).name) is None
    assert (await insert(store, 3, owner="bob")).alias == "training"
    assert (await store.insert(make_cluster(4), make_credentials("4"), [])).alias == ""
    assert (await store.insert(make_cluster(5), make_credentials("5"), [])).alias == ""


async def test_a_cluster_that_is_to_end_has_given_its_name_free(store: Store):
    """So that the next can be started while the last one ends; and when that has ended, it stays free."""
    first = await insert(store, 1)
    ending = await store.save(replace(first, target=Target.STOPPED))
    second = await insert(store, 2)

    await store.save(replace(ending, state=ClusterState.STOPPED))

    with pytest.raises(NameTaken, match=second.name):
        await insert(store, 3)


async def test_a_repeated_request_finds_its_cluster_under_its_name(store: Store):
    """The key is asked before the name: who repeats a request is not told that its own cluster is in the way."""
    first = make_cluster(1, alias="training")
    await store.insert(first, make_credentials("1"), [], key="cell")

    assert await store.insert(make_cluster(2, alias="training"), make_credentials("2"), [], key="cell") == first


async def test_of_many_at_once_one_gets_the_name(store: Store):
    """Twenty requests at the same time make one cluster."""
    made = await asyncio.gather(*(insert(store, number) for number in range(1, 21)), return_exceptions=True)

    assert sum(not isinstance(one, BaseException) for one in made) == 1
    assert sum(isinstance(one, NameTaken) for one in made) == 19
