import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { createLogger } from '../../platform/logger.ts';
import { createShutdown } from '../../platform/shutdown.ts';

describe('the shutdown', () => {
  it.each(['SIGINT', 'SIGTERM'])('runs the closers in reverse order on %s, one after the other', async (signal) => {
    const { shutdown, host } = create();
    const order: string[] = [];
    shutdown.onClose('pool', () => void order.push('pool'));
    shutdown.onClose('api', async () => {
      order.push('api begins');
      await new Promise((resolve) => setImmediate(resolve));
      order.push('api ends');
    });
    expect(shutdown.signal.aborted).toBe(false);
    host.emit(signal);
    expect(shutdown.signal.aborted).toBe(true);
    await shutdown.done;
    expect(order).toEqual(['api begins', 'api ends', 'pool']);
    expect(host.exits).toEqual([]);
    expect(host.listenerCount('SIGINT') + host.listenerCount('SIGTERM')).toBe(0);
  });

  it('runs the others when one closer throws, and remembers it in the exit code', async () => {
    const { shutdown, host } = create();
    const order: string[] = [];
    shutdown.onClose('pool', () => void order.push('pool'));
    shutdown.onClose('api', () => Promise.reject(new Error('stuck')));
    await shutdown.close('test');
    expect(order).toEqual(['pool']);
    expect(host.exitCode).toBe(1);
  });

  it('exits at once on a second signal', async () => {
    const { shutdown, host } = create({ echoMs: 0 });
    shutdown.onClose('api', () => new Promise(() => {}));
    host.emit('SIGTERM');
    host.emit('SIGINT');
    expect(host.exits).toEqual([130]);
  });

  it('takes a second signal right after the first for its echo', async () => {
    const { shutdown, host } = create();
    let finish = () => {};
    shutdown.onClose('api', () => new Promise<void>((resolve) => (finish = resolve)));
    host.emit('SIGINT');
    host.emit('SIGINT');
    expect(host.exits).toEqual([]);
    finish();
    await shutdown.done;
  });

  it('exits with 1 when a closer outlasts the deadline', async () => {
    const { shutdown, host } = create({ deadlineMs: 5 });
    shutdown.onClose('api', () => new Promise(() => {}));
    void shutdown.close('test');
    await expect.poll(() => host.exits).toEqual([1]);
  });

  it('exits when something forgotten keeps the process alive', async () => {
    const { shutdown, host } = create({ lingerMs: 5 });
    await shutdown.close('test');
    await expect.poll(() => host.exits).toEqual([0]);
  });

  it('closes what came up while it was closing, before what that stands on, and what came up after', async () => {
    const { shutdown } = create();
    const order: string[] = [];
    shutdown.onClose('pool', () => void order.push('pool'));
    shutdown.onClose('api', () => {
      shutdown.onClose('late', () => void order.push('late'));
    });
    await shutdown.close('test');
    shutdown.onClose('too late', () => void order.push('too late'));
    expect(order).toEqual(['late', 'pool', 'too late']);
  });

  it('closes once, however often it is asked', async () => {
    const { shutdown } = create();
    let closed = 0;
    shutdown.onClose('api', () => void (closed += 1));
    await Promise.all([shutdown.close('one'), shutdown.close('two')]);
    await shutdown.close('three');
    expect(closed).toBe(1);
  });
});

class Host extends EventEmitter {
  readonly exits: (number | string)[] = [];
  exitCode: number | string | null | undefined;

  exit(code: number | string): void {
    this.exits.push(code);
  }
}

function create(options: { deadlineMs?: number; lingerMs?: number; echoMs?: number } = {}) {
  const host = new Host();
  const shutdown = createShutdown(createLogger({ logLevel: 'silent' }, 'test'), { ...options, host });
  return { shutdown, host };
}
