"""How the database is reached, and in which role."""

import sys

import environ

from pathsearch_site.settings import env

_database = environ.Env.db_url_config(
    env.string(
        "DATABASE_URL",
        "",
        "postgresql://user:password@host:port/name; empty: the embedded Postgres",
    )
    or "postgresql://postgres@localhost/pathsearch"
)
_pool_size = env.integer(
    "PATHSEARCH_DB_POOL",
    0,
    "Most database connections of one web process; 0: no pool (task workers fork, pools do not)",
)
if "qcluster" in sys.argv:
    _pool_size = 0  # its workers are forked and would share the pool's sockets
_pool = {"pool": {"min_size": 1, "max_size": _pool_size, "timeout": 10}} if _pool_size else {}
DATABASES = {
    "default": {
        **_database,
        "ENGINE": "pathsearch_site.postgres",
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,  # a pooled connection may be older than the server
        "OPTIONS": {**_database.get("OPTIONS", {}), **_pool},
    }
}
_replica = env.string(
    "PATHSEARCH_REPLICA_URL",
    "",
    "A streaming replica of the database, from which searches read; empty: there is none",
)
DATABASE_ROUTERS: list[str] = []
if _replica:
    DATABASES["replica"] = {
        **environ.Env.db_url_config(_replica),
        "ENGINE": "pathsearch_site.postgres",
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**environ.Env.db_url_config(_replica).get("OPTIONS", {}), **_pool},
        "TEST": {"MIRROR": "default"},
    }
    DATABASE_ROUTERS = ["retrieval.replica.ReplicaRouter"]
ROW_SECURITY = env.boolean(
    "PATHSEARCH_ROW_SECURITY",
    True,
    "Row security of Postgres as the second lock: requests see their user's departments alone",
)
