import { pino } from 'pino';
import type { DestinationStream, Logger } from 'pino';
import type { Config } from './config.ts';

/** A JSON logger on stdout (or `destination`). Every line names its component; credentials are blanked. */
export function createLogger(
  config: Pick<Config, 'logLevel'>,
  component: string,
  destination: DestinationStream = pino.destination(1),
): Logger {
  return pino(
    {
      level: config.logLevel,
      base: { component, pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: [...secretPaths, ...personalPaths], censor: '[redacted]' },
    },
    destination,
  );
}

export type { Logger };

const secretNames = ['authorization', 'databaseUrl', 'metricsKey', 'temporalApiKey', 'classifyApiKey'];

/** PostgreSQL repeats values of rows in these parts of its errors. */
const personalPaths = ['err.detail', 'err.where', 'err.cause.detail', 'err.cause.where'];

/** A redaction path reaches one level each, so every depth at which these occur (request, config, error) is named. */
const secretPaths = secretNames.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);
