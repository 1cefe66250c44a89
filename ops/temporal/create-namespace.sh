#!/bin/sh
# Creates the namespace TEMPORAL_NAMESPACE at TEMPORAL_ADDRESS unless it is there.
set -eu

attempt=1
until temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 ||
  # Ended runs are kept for three days; PostgreSQL holds the facts, so nothing is lost with them.
  temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention 72h; do
  if [ "$attempt" -ge 30 ]; then
    echo "Temporal at $TEMPORAL_ADDRESS did not take the namespace $TEMPORAL_NAMESPACE." >&2
    exit 1
  fi
  attempt=$((attempt + 1))
  sleep 2
done
echo "The namespace $TEMPORAL_NAMESPACE is there."
