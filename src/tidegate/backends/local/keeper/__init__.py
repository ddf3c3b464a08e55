"""The keeper: one process per cluster, parent of its scheduler and of its workers' nannies.

How to think about it
---------------------
The gateway must be able to die at any moment without one computation noticing, and yet know afterwards how every
process of a cluster ended. A parent that lasts is needed for both, so each cluster has one of its own:

* It is started by the gateway, but belongs to nobody: a session of its own, adopted by init. It outlives the gateway,
  and the next gateway finds it by process id *and* start time (``keeper.pid``).
* It forks the **scheduler** while it still has a single thread, and runs one *stock* ``Nanny`` per worker, which fork
  theirs. So a worker costs a fork instead of an interpreter and its imports, and ``client.restart()``, memory limits
  and plugins work as Dask users know them. ``children.py`` says what a forked child must shed.
* It is told what to do in JSON lines over ``keeper.sock`` (``channel.py``), and says what happened in JSON lines
  appended to ``status.jsonl`` (``journal.py``). A reader of that file needs nothing of the keeper, not even that it
  lives.
* It is the subreaper of everything below it. When it stops, or when its scheduler ends, it kills all that descends
  from it, bears the cluster's mark in its environment or sits in the cluster's control group (``processes.py``).
  When it is killed itself, the kernel kills the scheduler and the workers with it; what they had started bears the
  mark, by which the gateway finds it.

This package is handed over: it is copied into the gateway's data folder and run there as ``tidegate_keeper`` by the
Python that the user chose. So it needs Python >= 3.9 and distributed >= 2024.1, imports nothing of ours, and its first
steps, before distributed is imported, nothing but the standard library.
"""

PID_FILE = "keeper.pid"
STATUS_FILE = "status.jsonl"
SOCKET = "keeper.sock"
LOCK_FILE = "keeper.lock"
