import { describe, expect, it } from 'vitest';
import { createLogger } from '../../platform/logger.ts';

describe('createLogger', () => {
  it('blanks credentials wherever they stand, and nothing else', () => {
    const lines = captureLines((logger) => {
      logger.info({ authorization: 'Bearer s3cret', port: 1 }, 'top');
      logger.info({ headers: { authorization: 'Bearer s3cret' } }, 'headers');
      logger.info({ req: { headers: { authorization: 'Bearer s3cret', host: 'a' } } }, 'request');
      logger.info({ config: { databaseUrl: 's3cret', metricsKey: 's3cret', temporalApiKey: 's3cret' } }, 'config');
    });
    expect(lines).toHaveLength(4);
    expect(JSON.stringify(lines)).not.toContain('s3cret');
    expect(lines[0]).toMatchObject({ port: 1, msg: 'top' });
    expect(lines[2]).toMatchObject({ req: { headers: { host: 'a', authorization: '[redacted]' } } });
  });

  it('names the component, the level in words and the time in ISO 8601', () => {
    const [line] = captureLines((logger) => logger.warn('careful'));
    expect(line).toMatchObject({ component: 'relay', level: 'warn', msg: 'careful' });
    expect(new Date(String(line!['time'])).toISOString()).toBe(line!['time']);
  });

  it('keeps to the level of the configuration', () => {
    expect(captureLines((logger) => logger.debug('quiet'))).toEqual([]);
  });
});

function captureLines(write: (logger: ReturnType<typeof createLogger>) => void): Record<string, unknown>[] {
  const lines: Record<string, unknown>[] = [];
  write(createLogger({ logLevel: 'info' }, 'relay', { write: (text) => void lines.push(JSON.parse(text)) }));
  return lines;
}
