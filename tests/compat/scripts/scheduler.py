"""A scheduler whose agent has other numbers than in use: ``scheduler.py AGENT_FILE TIMING_AS_JSON``."""

import asyncio
import json
import sys

from distributed import Scheduler
from distributed.utils import import_file


async def main() -> None:
    [agent] = import_file(sys.argv[1])
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler:
        agent.Agent(scheduler, agent.SETTINGS, agent.Timing(**json.loads(sys.argv[2]))).begin()
        await scheduler.finished()


if __name__ == "__main__":
    asyncio.run(main())
