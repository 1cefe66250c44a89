import { expect, test } from 'vitest';
import { ANY_ADDRESS, isCidr, isRefusedAddress } from '../../platform/private-addresses.ts';

test.each([
  '0.0.0.0',
  '0.1.2.3',
  '10.0.0.1',
  '100.64.0.1',
  '100.127.255.255',
  '127.0.0.1',
  '127.255.255.254',
  '169.254.169.254',
  '172.16.0.1',
  '172.31.255.255',
  '192.0.0.8',
  '192.0.2.1',
  '192.168.1.1',
  '198.18.0.1',
  '198.19.255.255',
  '198.51.100.7',
  '203.0.113.9',
  '224.0.0.1',
  '255.255.255.255',
  '::',
  '::1',
  '::127.0.0.1',
  '::ffff:127.0.0.1',
  '::ffff:a00:1',
  '0:0:0:0:0:ffff:c0a8:101',
  '64:ff9b::127.0.0.1',
  '64:ff9b::a9fe:a9fe',
  '64:ff9b::',
  '64:ff9b:1::808:808',
  '100::1',
  '2001::1',
  '2001:0:4136:e378:8000:63bf:3fff:fdd2',
  '2001:db8::1',
  '2002:7f00:1::',
  '2002:808:808::1',
  '3fff::1',
  'fc00::1',
  'fdaa::3',
  'fe80::1',
  'fe80::1%eth0',
  'fec0::1',
  'ff02::1',
  '5f00::1',
  'no address',
  '',
  '127.1',
])('%s counts as inside', (address) => {
  expect(isRefusedAddress(address, [])).toBe(true);
});

test.each([
  '1.1.1.1',
  '9.255.255.255',
  '11.0.0.0',
  '100.63.255.255',
  '100.128.0.0',
  '126.255.255.255',
  '128.0.0.0',
  '172.15.255.255',
  '172.32.0.0',
  '192.0.1.0',
  '198.20.0.0',
  '223.255.255.255',
  '2606:4700:4700::1111',
  '2a00:1450:4001:80b::200e',
  '2001:4860:4860::8888',
  '::ffff:1.1.1.1',
  '64:ff9b::1.1.1.1',
  '64:ff9b::808:808',
])('%s counts as public', (address) => {
  expect(isRefusedAddress(address, [])).toBe(false);
});

test.each([
  ['10.1.2.3', ['10.1.0.0/16'], false],
  ['10.2.2.3', ['10.1.0.0/16'], true],
  ['::ffff:10.1.2.3', ['10.1.0.0/16'], false],
  ['64:ff9b::10.1.2.3', ['10.1.0.0/16'], false],
  ['127.0.0.1', ['127.0.0.1'], false],
  ['127.0.0.2', ['127.0.0.1'], true],
  ['::1', ['127.0.0.0/8'], true],
  ['::1', ['::1/128'], false],
  ['fd00::5', ['10.0.0.0/8', 'fd00::/8'], false],
  ['fe80::1%eth0', ['fe80::/10'], false],
  ['169.254.169.254', ANY_ADDRESS, false],
  ['::1', ANY_ADDRESS, false],
  ['nothing', ANY_ADDRESS, true],
] as const)('%s with %j allowed is refused: %s', (address, allowed, refused) => {
  expect(isRefusedAddress(address, allowed)).toBe(refused);
});

test('blocks are told from what is none', () => {
  expect(['10.0.0.0/8', '::1', 'fd00::/8', '0.0.0.0/0'].filter((text) => !isCidr(text))).toEqual([]);
  expect(['10.0.0.0/33', '10.0.0/8', '::1/129', 'localhost', '10.0.0.0/', '/8', '1.2.3.4/-1'].filter(isCidr)).toEqual(
    [],
  );
});
