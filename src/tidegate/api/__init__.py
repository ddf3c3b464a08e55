"""JSON for programs: the dask-gateway protocol (v1), our own (v2), and what agents and proxies ask.

``routes.py`` is the whole API on one screen, with who may call what beside each path; a handler translates between
JSON and ``control``, and holds no logic of its own.
"""
