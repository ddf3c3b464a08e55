# mypy: ignore-errors
"""Options and limits as an administrator of dask-gateway declares them; ``tidegate.yaml`` beside it says the same."""

from pathlib import Path

from dask_gateway_server.options import Bool, Float, Integer, Mapping, Options, Select, String

# Where it listens and keeps its files.
load_subconfig(str(Path(__file__).parents[4] / "benchmarks/peer/config.py"))  # noqa: F821 -- of traitlets


def handler(options):
    """Turn what users chose into what runs."""
    if options.project == "full":
        raise ValueError("There is no room left in the project full")
    return {"worker_cores": options.worker_cores, "worker_memory": int(options.worker_memory * 2**30)}


c = get_config()  # noqa: F821 -- provided by traitlets when it reads this file
c.Backend.cluster_options = Options(
    Integer("worker_cores", default=1, min=1, max=2, label="Worker Cores"),
    Float("worker_memory", default=1, min=0.5, max=2, label="Worker Memory (GiB)"),
    Integer("level", default=3, label="Level"),
    Integer("rounds", default=2, min=2, max=2, label="Rounds"),
    Float("ratio", default=0.5, max=1, label="Ratio"),
    String("project", default="none", label="Project"),
    Bool("spot", default=True, label="Spot"),
    Select("image", [("Geosciences", "reg/geo"), ("R", "reg/r")], default="R", label="Image"),
    Select("queue", ["short", "long"], label="Queue"),
    Select("site", ["north"], label="Site"),
    Mapping("tags", default={"team": "ice"}, label="Tags"),
    handler=handler,
)
c.ClusterConfig.worker_memory = "1 G"
c.ClusterConfig.scheduler_cores = 1
c.ClusterConfig.scheduler_memory = "2 G"
c.ClusterConfig.cluster_max_cores = 4
c.ClusterConfig.cluster_max_memory = "6 G"
