import { describe, expect, it } from 'vitest';
import { isRefusedAddress, literalAddressOf } from '../../platform/private-addresses.ts';
import { validateFlow } from '../../routing/flow-document.ts';
import { isFitForSecrets } from '../../routing/web-address.ts';

const TEAM = '0198a5b0-0000-7000-8000-000000000001';
const known = { teamIds: new Set([TEAM]), skills: new Set<string>() };

/** A flow that has the address in each of the places where one may stand. */
const flowWith = (url: string) => ({
  enrichment: [{ kind: 'http', url, timeoutMs: 1000, fields: { tier: '/tier' } }],
  routing: {
    branches: [],
    otherwise: { teamId: TEAM, webhookUrl: url, rings: [{ afterSeconds: 9, fallback: 'wait', webhookUrl: url }] },
  },
});

const places = ['/enrichment/0/url', '/routing/otherwise/webhookUrl', '/routing/otherwise/rings/0/webhookUrl'];

const faultsOf = (document: unknown) => {
  const result = validateFlow(document, known);
  return result.ok ? [] : result.faults;
};

describe('an address that nobody could be asked at is a fault, wherever it stands', () => {
  it.each([
    ['http://x:99999/', /port/],
    ['https://x:0', /port/],
    ['http://1.2.3.4.5/', /IPv4/],
    ['http://1.2.3/', /IPv4/],
    ['http://256.1.1.1:80/', /IPv4/],
    ['http://2130706433/', /IPv4/],
    ['http://x.0x1ffffffff/', /host that is none/],
    ['http://[1:2]/', /IPv6/],
    ['http://[1.2.3.4]/', /IPv6/],
    ['http://x/a/../b', /\.\./],
    ['http://x/./b?c=d', /\.\./],
    ['http://x/a/%2E%2e', /\.\./],
  ])('%s', (url, message) => {
    const faults = faultsOf(flowWith(url));
    expect(faults.map(({ path }) => path).toSorted()).toEqual(places.toSorted());
    for (const fault of faults) {
      expect(fault.message).toMatch(message);
      expect(fault.mend).toMatch(/\.$/);
    }
  });

  it.each([
    'http://x:65535/',
    'https://crm.example',
    'https://crm.example?to=../x',
    'http://1.2.3.4:80/a..b/...',
    'http://[2001:db8::7]:8443/',
    'https://4.example/',
  ])('%s is none', (url) => {
    expect(faultsOf(flowWith(url))).toEqual([]);
  });

  it('what is put in later does not count', () => {
    const { enrichment, routing } = flowWith('https://crm.example');
    const url = 'https://crm.example/{{contact.id}}/..{{contact.name}}?a={{contact.id}}';
    expect(faultsOf({ enrichment: [{ ...enrichment[0], url }], routing })).toEqual([]);
  });
});

describe('a secret', () => {
  const flowOf = (url: string) => {
    const { enrichment, routing } = flowWith('https://crm.example');
    return { enrichment: [{ ...enrichment[0], url, headers: { 'X-Key': { secret: 'crm' } } }], routing };
  };

  it.each(['http://crm.example/', 'http://crm.example:443/{{contact.id}}', 'http://8.8.8.8/', 'http://[2a00::1]/'])(
    'may not go to %s',
    (url) => {
      expect(faultsOf(flowOf(url))).toMatchObject([
        { path: '/enrichment/0/headers/X-Key', message: expect.stringMatching(/https only/) },
      ]);
    },
  );

  it.each(['https://crm.example/', 'http://localhost:8080/', 'http://10.1.2.3/', 'http://[fd12::1]/', 'http://[::1]/'])(
    'may go to %s',
    (url) => {
      expect(faultsOf(flowOf(url))).toEqual([]);
    },
  );

  it('goes by http to no address that counts as public elsewhere', () => {
    const hosts = [
      '10.0.0.1',
      '127.9.9.9',
      '172.16.0.1',
      '172.31.255.255',
      '192.168.1.1',
      '[::1]',
      '[fc00::]',
      '[fdff::1]',
    ];
    for (const host of hosts) {
      const url = new URL(`http://${host}/`);
      expect([host, isFitForSecrets(url)]).toEqual([host, true]);
      expect([host, isRefusedAddress(literalAddressOf(url)!, [])]).toEqual([host, true]);
    }
    const others = ['172.15.0.1', '172.32.0.1', '11.0.0.1', '192.169.0.1', '169.254.169.254', '[fc::1]', '[fe80::1]'];
    for (const host of [...others, '10.example', 'localhost.example', '[::ffff:8.8.8.8]']) {
      expect([host, isFitForSecrets(new URL(`http://${host}/`))]).toEqual([host, false]);
    }
  });
});
