"""Pages for people: their clusters, what became of them, and the way to the dashboards.

Everything here stands on the same services and the same rules of access as the API. Pages are made on the server and
work without scripts; htmx and its server-sent events keep them fresh.
"""
