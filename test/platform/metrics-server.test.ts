import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { createMetrics } from '../../platform/metrics.ts';
import { mayReadMetrics, startMetricsServer } from '../../platform/metrics-server.ts';
import type { MetricsServer, MetricsServerOptions } from '../../platform/metrics-server.ts';

const open: MetricsServer[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((server) => server.close()));
});

describe('the metrics server', () => {
  it('serves the registry and the extra text with the registry’s content type', async () => {
    const { registry, counter } = createMetrics({ component: 'test' });
    counter('things_total', 'Things.').inc(3);
    const { url } = await start({ registry, extraText: async () => 'temporal_things 7\n' });
    const response = await fetch(url);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe(registry.contentType);
    const page = await response.text();
    expect(page).toMatch(/^switchyard_things_total\{component="test"\} 3$/m);
    expect(page).toMatch(/^temporal_things 7$/m);
  });

  it('goes on without the extra text when that fails', async () => {
    const { url } = await start({ extraText: () => Promise.reject(new Error('no worker yet')) });
    const response = await fetch(url);
    expect(response.status).toBe(200);
    expect(await response.text()).toContain('switchyard_process_cpu_seconds_total');
  });

  it('answers 500 when a metric cannot be collected, and survives it', async () => {
    const metrics = createMetrics({ component: 'test' });
    let broken = true;
    metrics.gauge('depth', 'Depth.', [], () => {
      if (broken) throw new Error('no database');
    });
    const { url } = await start({ registry: metrics.registry });
    expect((await fetch(url)).status).toBe(500);
    broken = false;
    expect((await fetch(url)).status).toBe(200);
  });

  it('answers 401 to who comes through a proxy without the key, 200 with it', async () => {
    const { url } = await start({ metricsKey: 'operator-key' });
    const through = { 'x-forwarded-for': '203.0.113.9' };
    const refused = await fetch(url, { headers: { ...through, authorization: 'Bearer other-key' } });
    expect(refused.status).toBe(401);
    expect(refused.headers.get('www-authenticate')).toBe('Bearer');
    expect(await refused.text()).not.toContain('switchyard_');
    const served = await fetch(url, { headers: { ...through, authorization: 'Bearer operator-key' } });
    expect(served.status).toBe(200);
  });

  it('answers 404 elsewhere and to other methods, and tells that it lives', async () => {
    const { url } = await start({});
    expect((await fetch(new URL('/other', url))).status).toBe(404);
    expect((await fetch(url, { method: 'POST' })).status).toBe(404);
    const health = await fetch(new URL('/healthz', url));
    expect([health.status, await health.json()]).toEqual([200, { status: 'ok' }]);
  });

  it('rejects when the port is taken', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as AddressInfo;
    await expect(start({ port })).rejects.toMatchObject({ code: 'EADDRINUSE' });
    other.close();
  });

  it('stops listening on close, which may be called twice', async () => {
    const server = await start({});
    await fetch(server.url);
    await server.close();
    await server.close();
    await expect(fetch(server.url)).rejects.toThrow();
  });
});

describe('mayReadMetrics', () => {
  const metricsKey = 'operator-key';

  it.each(['127.0.0.1', '127.8.9.10', '::1', '::ffff:127.0.0.1'])('lets the loopback peer %s in', (remoteAddress) => {
    expect(mayReadMetrics({ remoteAddress, headers: {}, metricsKey })).toBe(true);
    expect(mayReadMetrics({ remoteAddress, headers: {} })).toBe(true);
  });

  it.each(['10.0.0.7', '::ffff:10.0.0.7', '2001:db8::127.0.0.1', undefined])('asks %s for the key', (remoteAddress) => {
    const ask = (authorization?: string) => mayReadMetrics({ remoteAddress, headers: { authorization }, metricsKey });
    expect(ask()).toBe(false);
    expect(ask('')).toBe(false);
    expect(ask('Bearer ')).toBe(false);
    expect(ask('Bearer operator-ke')).toBe(false);
    expect(ask('Bearer operator-key2')).toBe(false);
    expect(ask('Basic operator-key')).toBe(false);
    expect(ask('Bearer operator-key')).toBe(true);
    expect(ask('bearer operator-key')).toBe(true);
  });

  it('lets nobody else in while there is no key', () => {
    const headers = { authorization: 'Bearer undefined' };
    expect(mayReadMetrics({ remoteAddress: '10.0.0.7', headers })).toBe(false);
  });
});

async function start(options: Partial<MetricsServerOptions>): Promise<MetricsServer> {
  const { registry } = createMetrics({ component: 'test' });
  const server = await startMetricsServer({ registry, host: '127.0.0.1', port: 0, ...options });
  open.push(server);
  return server;
}
