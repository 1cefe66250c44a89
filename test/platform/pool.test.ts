import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { describe, expect, inject, it } from 'vitest';
import { ConfigError } from '../../platform/config.ts';
import { createPool, isConflict, isConnectionFailure, retryOnConflict, withTransaction } from '../../platform/pool.ts';

describe('retryOnConflict', () => {
  it.each(['40001', '40P01', '55P03'])('runs again after %s', async (code) => {
    let runs = 0;
    const result = await retryOnConflict(async () => {
      runs += 1;
      if (runs < 3) throw createSqlError(code);
      return 'done';
    });
    expect([result, runs]).toEqual(['done', 3]);
  });

  it('gives up after the last attempt, with the last error', async () => {
    let runs = 0;
    const fail = async () => {
      runs += 1;
      throw Object.assign(createSqlError('40001'), { run: runs });
    };
    await expect(retryOnConflict(fail, 2)).rejects.toMatchObject({ code: '40001', run: 2 });
    expect(runs).toBe(2);
  });

  it('does not repeat what another error ended', async () => {
    let runs = 0;
    const fail = async () => {
      runs += 1;
      throw createSqlError('23505');
    };
    await expect(retryOnConflict(fail)).rejects.toMatchObject({ code: '23505' });
    expect(runs).toBe(1);
  });
});

describe('isConnectionFailure', () => {
  it('knows a refused connection', async () => {
    const pool = createPool(
      { databaseUrl: `postgres://a:b@127.0.0.1:${await findClosedPort()}/x`, databasePoolSize: 1 },
      { applicationName: 'test' },
    );
    const error: unknown = await withTransaction(pool, async () => undefined).catch((thrown: unknown) => thrown);
    expect(isConnectionFailure(error)).toBe(true);
    await pool.end();
  });

  it('tells it from a row’s fault and from a conflict', () => {
    // 25006: in a failover the connection may lead to a standby for a while.
    for (const code of ['08006', '57P01', '53300', '25006', '25P03']) {
      expect([code, isConnectionFailure(createSqlError(code))]).toEqual([code, true]);
    }
    expect(isConnectionFailure(new Error('Query read timeout'))).toBe(true);
    expect(['23505', '40001', '22P05'].map((code) => isConnectionFailure(createSqlError(code)))).toEqual([
      false,
      false,
      false,
    ]);
    expect(isConnectionFailure(new Error('Connection terminated unexpectedly'))).toBe(true);
    expect([isConnectionFailure(undefined), isConflict('40001')]).toEqual([false, false]);
  });
});

describe('createPool', () => {
  it('reads int8, alone and in arrays, as numbers, and refuses those that a number cannot hold', async () => {
    const pool = createPool({ databaseUrl: 'postgres:///x', databasePoolSize: 1 }, { applicationName: 'test' });
    const getTypeParser: (oid: number, format: 'text') => (text: string) => unknown = pool.options.types!.getTypeParser;
    expect(getTypeParser(20, 'text')('42')).toBe(42);
    expect(getTypeParser(1016, 'text')('{1,NULL,3}')).toEqual([1, null, 3]);
    expect(() => getTypeParser(20, 'text')('9223372036854775807')).toThrow(RangeError);
    expect(getTypeParser(25, 'text')('42')).toBe('42');
    await pool.end();
  });

  it('asks for plans that hold for all parameters only where it is told to', async () => {
    const config = { databaseUrl: inject('postgresUrl'), databasePoolSize: 1 };
    const modes = [true, false].map(async (hasGenericPlans) => {
      const pool = createPool(config, { applicationName: 'test', hasGenericPlans });
      const { rows } = await pool.query<{ plan_cache_mode: string }>('SHOW plan_cache_mode');
      await pool.end();
      return rows[0]!.plan_cache_mode;
    });
    expect(await Promise.all(modes)).toEqual(['force_generic_plan', 'auto']);
  });

  it('keeps its limits and its plans whatever DATABASE_URL asks for', async () => {
    const url = new URL(inject('postgresUrl'));
    url.searchParams.set('options', '-c search_path=pg_catalog');
    const pool = createPool(
      { databaseUrl: url.href, databasePoolSize: 1 },
      { applicationName: 'test', lockTimeoutMs: 1_000, hasGenericPlans: true },
    );
    const names = 'lock_timeout statement_timeout idle_in_transaction_session_timeout plan_cache_mode search_path';
    const { rows } = await pool.query<{ setting: string }>(
      `SELECT current_setting(name) AS setting FROM unnest($1::text[]) WITH ORDINALITY AS n (name, place) ORDER BY place`,
      [names.split(' ')],
    );
    expect(rows.map(({ setting }) => setting)).toEqual(['1s', '30s', '1min', 'force_generic_plan', 'pg_catalog']);
    await pool.end();
  });

  it('asks for nothing at the start of a connection that a pooler may refuse', async () => {
    const { port, startup } = await listenForStartup();
    const pool = createPool(
      { databaseUrl: `postgres://a:b@127.0.0.1:${port}/x`, databasePoolSize: 1 },
      { applicationName: 'test', hasGenericPlans: true },
    );
    const attempt = pool.query('SELECT 1').catch(() => undefined);
    // Name, value, name, value, each ended by a zero byte, after length and protocol version.
    const words = (await startup).subarray(8).toString().split('\0');
    expect(words.filter((word, index) => index % 2 === 0 && word !== '').toSorted()).toEqual([
      'application_name',
      'client_encoding',
      'database',
      'user',
    ]);
    await attempt;
    await pool.end();
  });

  it('gives nobody a connection that did not take the limits', async () => {
    const pool = createPool(
      { databaseUrl: inject('postgresUrl'), databasePoolSize: 1 },
      { applicationName: 'test', lockTimeoutMs: -1 },
    );
    await expect(pool.query('SELECT 1')).rejects.toThrow('lock_timeout');
    expect(pool.totalCount).toBe(0);
    await pool.end();
  });

  it('says which variable is missing', () => {
    const config = { databaseUrl: undefined, databasePoolSize: 1 };
    expect(() => createPool(config, { applicationName: 'test' })).toThrow(ConfigError);
  });
});

function createSqlError(code: string): Error {
  return Object.assign(new Error(`sqlstate ${code}`), { code });
}

async function findClosedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** What a client says first, after which the connection is cut. */
async function listenForStartup(): Promise<{ port: number; startup: Promise<Buffer> }> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const startup = once(server, 'connection').then(async ([socket]: Socket[]) => {
    const [packet] = (await once(socket!, 'data')) as [Buffer];
    socket!.destroy();
    server.close();
    return packet;
  });
  return { port: (server.address() as AddressInfo).port, startup };
}
