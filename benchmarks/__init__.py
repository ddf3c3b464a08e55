"""Tidegate beside dask-gateway 2026.3.0: ``python -m benchmarks``, or ``make bench``. ``README.md`` explains."""
