"""The names for scripts on asyncio: those of `vasbus`, with `await`."""

from lpar.client.aio import *  # noqa: F403
from lpar.client.aio import __all__ as __all__
