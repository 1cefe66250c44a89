# One image for all parts, told apart by the command:
#   API       node dist/api/main.js          (the default)
#   worker    node dist/worker/main.js
#   migrate   node dist/ops/migrate.js
#   workspace node dist/ops/workspace.js create NAME
#
# Not run so far: no Docker engine was at hand. What was run are its steps: `npm ci`, `npm run build`, and the built programs with
# the production dependencies alone.

FROM node:20-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No package here needs its install script to build or to run.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
# Compiles, and bundles the workflow code, so that no worker does it at its start.
RUN npm run build

FROM node:20-slim AS dependencies
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM node:20-slim
# The Temporal client checks servers' certificates against those of the system; the slim image has none.
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
WORKDIR /app
ENV NODE_ENV=production HOST=0.0.0.0 METRICS_HOST=0.0.0.0
COPY --from=dependencies /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json ./
USER node
EXPOSE 8080 9464 9465
# Healthy when the API or the worker in this container says that it lives; whether it is ready is asked at the API's /readyz.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["node", "-e", "const {PORT, WORKER_METRICS_PORT} = process.env; Promise.any([PORT || 8080, WORKER_METRICS_PORT || 9465].map(async (port) => { if (!(await fetch(`http://127.0.0.1:${port}/healthz`)).ok) throw port; })).then(() => process.exit(0), () => process.exit(1))"]
CMD ["node", "--enable-source-maps", "dist/api/main.js"]
