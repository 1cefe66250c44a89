import { expect, test } from 'vitest';
import { outboundDefaults } from '../../ops/launch.ts';
import { loadConfig } from '../../platform/config.ts';

test('channels on this machine are reached from the start, unless the operator says what is', () => {
  const startedWith = (env: Record<string, string>) => loadConfig({ ...env, ...outboundDefaults(loadConfig(env)) });
  expect(startedWith({}).outboundPrivateCidrs).toEqual(['127.0.0.0/8', '::1/128']);
  expect(startedWith({ OUTBOUND_PRIVATE_CIDRS: '' }).outboundPrivateCidrs).toEqual(['127.0.0.0/8', '::1/128']);
  expect(startedWith({ OUTBOUND_PRIVATE_CIDRS: '10.0.0.0/8' }).outboundPrivateCidrs).toEqual(['10.0.0.0/8']);
  // Steps that ask other systems reach no more than before.
  expect(startedWith({}).privateCidrsAllowed).toEqual([]);
});
