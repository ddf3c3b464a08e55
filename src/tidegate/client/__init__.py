"""What a notebook imports. It needs distributed, aiohttp and rich, and nothing of the server.

``gateway.py`` is the door: a ``Gateway`` sends requests (``transport.py``, with the credentials of ``auth.py``) to the
address that ``config.py`` finds, and makes ``GatewayCluster`` objects (``cluster.py``), which are Dask clusters like
any other and reach their scheduler with the certificates of ``security.py``.
"""
