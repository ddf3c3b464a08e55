"""The JSON (and the few names) that cross the network: v1 (dask-gateway), v2, agent, proxy."""
