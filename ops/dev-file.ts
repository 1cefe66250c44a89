import { join } from 'node:path';
import { loadConfig, type Config } from '../platform/config.ts';
import { readJson } from './state-files.ts';

/** What `npm start` tells other programs of the running system, in `dev.json` of the state directory. */
export interface DevFile {
  apiUrl: string;
  metricsUrls: { api: string; worker: string };
  temporalAddress: string;
  temporalUiUrl: string | null;
  databaseUrl: string;
  workspaceId: string;
  keys: { ingest: string; agent: string; admin: string; metrics: string };
}

export function devFilePath(stateDir: string): string {
  return join(stateDir, 'dev.json');
}

/** The database a command of ours is meant for: DATABASE_URL, else that of the system started here. Throws when there is neither. */
export function resolveDatabaseUrl(config: Config = loadConfig()): string {
  const url = config.databaseUrl ?? readJson<DevFile>(devFilePath(config.switchyardHome))?.databaseUrl;
  if (url === undefined) {
    throw new Error(`Set DATABASE_URL, or run \`npm start\` first (no ${devFilePath(config.switchyardHome)} here).`);
  }
  return url;
}
