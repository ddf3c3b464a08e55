"""Print the paths of Dask's own HTTP server: ``http_paths.py scheduler|worker``."""

import importlib
import sys

import dask
import distributed.dashboard.scheduler
import distributed.dashboard.worker

kind = sys.argv[1]
for module in dask.config.get(f"distributed.{kind}.http.routes"):
    for route in importlib.import_module(module).routes:
        print(route[0])
if kind == "scheduler":
    pages = distributed.dashboard.scheduler.applications
else:
    pages = ["/status", "/counters", "/crossfilter", "/system", "/profile", "/profile-server"]
for page in pages:
    print(page, f"{page}/ws", f"{page}/autoload.js")
print("/sitemap.json", "/static/js/bokeh.min.js")
