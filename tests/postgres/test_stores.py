"""The store on PostgreSQL keeps the promises of a store."""

from __future__ import annotations

from tests.contract.test_stores import *  # noqa: F403 - the whole suite, on another database
from tests.contract.test_stores_audit import *  # noqa: F403
from tests.contract.test_stores_limits import *  # noqa: F403
from tests.contract.test_stores_names import *  # noqa: F403
from tests.contract.test_stores_usage import *  # noqa: F403
