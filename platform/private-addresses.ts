/**
 * Which IP addresses count as the inside of a network: everything that is not plainly public. What is unknown counts as inside, and an IPv4
 * address that is carried inside an IPv6 address (mapped, NAT64) counts as what it carries.
 */
import { BlockList, isIPv4, isIPv6 } from 'node:net';

/** Whether connecting to the address would reach inside, apart from `allowed` (CIDR blocks). What is no address counts as inside. */
export function isRefusedAddress(address: string, allowed: readonly string[]): boolean {
  const plain = plainAddress(address);
  if (plain === undefined) return true;
  return isPrivate(plain) && !blocksOf(allowed).check(plain, familyOf(plain));
}

/** The IP address that stands in the URL in place of a name, without brackets; null where there is a name. */
export function literalAddressOf({ hostname }: Pick<URL, 'hostname'>): string | null {
  const literal = hostname.replace(/^\[|\]$/g, '');
  return isIPv4(literal) || isIPv6(literal) ? literal : null;
}

/** `a.b.c.d/n`, `x::y/n`, or a single address. */
export function isCidr(text: string): boolean {
  return readCidr(text) !== undefined;
}

/** For what the operator names directly: wherever it leads. */
export const ANY_ADDRESS: readonly string[] = Object.freeze(['0.0.0.0/0', '::/0']);

const inside4 = [
  '0.0.0.0/8', // this host
  '10.0.0.0/8', // private
  '100.64.0.0/10', // shared by carriers
  '127.0.0.0/8', // loopback
  '169.254.0.0/16', // link-local, where clouds tell credentials
  '172.16.0.0/12', // private
  '192.0.0.0/24', // protocol assignments
  '192.0.2.0/24', // documentation
  '192.88.99.0/24', // relays of 6to4
  '192.168.0.0/16', // private
  '198.18.0.0/15', // benchmarks
  '198.51.100.0/24', // documentation
  '203.0.113.0/24', // documentation
  '224.0.0.0/4', // multicast
  '240.0.0.0/4', // reserved, broadcast
];

/** Of IPv6 only 2000::/3 is public at all; these are not, although they lie within. */
const inside6 = [
  '2001::/23', // protocol assignments: Teredo, ORCHID, benchmarks
  '2001:db8::/32', // documentation
  '2002::/16', // 6to4, which carries any IPv4 address
  '3fff::/20', // documentation
];

const inside = createBlocks([...inside4, ...inside6]);
const publicIpv6 = createBlocks(['2000::/3']);
/** Both carry an IPv4 address in their last 32 bits. */
const carriers = createBlocks(['::ffff:0:0/96', '64:ff9b::/96']);
const blocksByList = new WeakMap<readonly string[], BlockList>();

function isPrivate(plain: string): boolean {
  if (isIPv4(plain)) return inside.check(plain, 'ipv4');
  return !publicIpv6.check(plain, 'ipv6') || inside.check(plain, 'ipv6');
}

/** The address as it counts: without a zone, and the IPv4 address where one is carried. */
function plainAddress(address: string): string | undefined {
  if (isIPv4(address)) return address;
  const plain = address.replace(/%.*$/, '');
  if (!isIPv6(plain)) return undefined;
  // A URL writes every form of an IPv6 address the same way, in hexadecimal.
  const groups = new URL(`http://[${plain}]`).hostname.slice(1, -1).split(':');
  if (!carriers.check(plain, 'ipv6')) return plain;
  const [high, low] = groups.slice(-2).map((group) => Number.parseInt(group || '0', 16)) as [number, number];
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

function blocksOf(cidrs: readonly string[]): BlockList {
  let blocks = blocksByList.get(cidrs);
  if (blocks === undefined) {
    blocks = createBlocks(cidrs);
    blocksByList.set(cidrs, blocks);
  }
  return blocks;
}

function createBlocks(cidrs: readonly string[]): BlockList {
  const blocks = new BlockList();
  for (const text of cidrs) {
    const cidr = readCidr(text);
    if (cidr === undefined) throw new Error(`${text} is no CIDR block`);
    blocks.addSubnet(cidr.address, cidr.bits, familyOf(cidr.address));
  }
  return blocks;
}

function readCidr(text: string): { address: string; bits: number } | undefined {
  const [, address, length] = /^([\da-fA-F:.]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  if (address === undefined || !(isIPv4(address) || isIPv6(address))) return undefined;
  const most = isIPv4(address) ? 32 : 128;
  const bits = length === undefined ? most : Number(length);
  return bits <= most ? { address, bits } : undefined;
}

function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIPv4(address) ? 'ipv4' : 'ipv6';
}
