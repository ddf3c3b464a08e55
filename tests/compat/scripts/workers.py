"""Several workers in one process, which end as workers under a nanny do: ``workers.py ADDRESS THREADS NAME...``."""

import asyncio
import sys

from distributed import Worker


async def main() -> None:
    address, threads, *names = sys.argv[1:]
    made = [Worker(address, name=name, nthreads=int(threads), host="127.0.0.1", dashboard=False) for name in names]
    workers = await asyncio.gather(*made)
    await asyncio.gather(*(worker.finished() for worker in workers))


if __name__ == "__main__":
    asyncio.run(main())
