"""Keys in the asyncio client: they work, and where they do not its caller is told at once."""

from __future__ import annotations

import gzip

import pytest

from protocol.keys import KeysError
from tests.security.system import Secured
from vasbus import aio


async def test_with_its_key_a_client_compresses(system: Secured) -> None:
    async with aio.Lpar(system.device["lp2"], keys=system.keyring("client:lp2")) as lpar:
        packed = await aio.NxGzip(lpar, small_bytes=0).compress(b"two partitions " * 5_000)
    assert gzip.decompress(packed) == b"two partitions " * 5_000


@pytest.mark.parametrize("owner", [None, "client:lp2", "hmc"])
async def test_without_it_the_open_fails_with_the_reason(system: Secured, owner: str | None) -> None:
    keys = None if owner is None else system.keyring(owner)
    with pytest.raises(PermissionError, match=owner or "vasbus keys"):
        await aio.Lpar.open(system.device["lp1"], keys=keys, timeout=15.0)


async def test_a_key_file_that_is_none_is_named(system: Secured) -> None:
    with pytest.raises(KeysError, match=r"nowhere\.keys"):
        await aio.Lpar.open(system.device["lp1"], keys="nowhere.keys")
