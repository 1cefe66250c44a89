#!/bin/sh
# Creates Temporal's two databases and brings their schemas up to date. Does nothing where that is done, so it runs at every start.
# Connection and password come from POSTGRES_SEEDS, DB_PORT, POSTGRES_USER and SQL_PASSWORD.
set -eu

set_up() {
  database=$1
  schema=/etc/temporal/schema/postgresql/v12/$2/versioned
  run() {
    temporal-sql-tool --plugin postgres12 --ep "$POSTGRES_SEEDS" --port "$DB_PORT" --user "$POSTGRES_USER" --db "$database" "$@"
  }
  run create
  run setup-schema -v 0.0
  run update-schema -d "$schema"
}

set_up temporal temporal
set_up temporal_visibility visibility
