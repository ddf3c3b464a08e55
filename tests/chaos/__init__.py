"""What may be killed at any moment, and is, while real users work: ``make chaos``.

How to think about it
---------------------
A **round** is one thing that a user does (``operations.py``: create, scale, adapt, compute, shut down) and one process
that is killed meanwhile, at a random moment (``victims.py``). Two clusters go through the same operation at once, and a
third one, the bystander's, computes all the time and is never meant. Afterwards the world is held against what was
promised (``invariants.py``): every cluster that was granted is on record, in a state that fits; who did not lose a
process of their own cluster has noticed nothing; nothing runs, lies about or is held open that should not.

A **chapter** (``chapter.py``) is several rounds on one gateway (``world.py``), so that what leaks has time to add up;
in the end the gateway is stopped and must leave nothing. Which rounds there are follows from a seed (``plan.py``), so
that a failing one can be repeated. What the kernel does in the microseconds around a kill cannot be.

Beside the rounds stand one long computation through ten deaths of control and three of the whole server
(``endurance.py``), and the faults that are no deaths (``test_disk_full.py`` and its neighbours): after each of them the
gateway must have spoken, lost nothing, and go on by itself.
"""
