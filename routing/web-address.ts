import type { FlowFault } from './flow-faults.ts';
import { MAX_ADDRESS_CHARS, TEXT_FORMS } from './text-forms.ts';

/** What is used of the language's URL: this room is compiled without the names that a platform gives. */
interface WebUrl {
  readonly protocol: string;
  readonly hostname: string;
}
declare const URL: { new (address: string): WebUrl; canParse(address: string): boolean };

/**
 * Finds what the pattern of an address lets through although nobody can be asked there: a port or a host that is none, a path that is not the one
 * that is written. `{{…}}` may stand behind the host. What does not match the pattern is passed over: its fault is known.
 */
export function addressFaults(path: string, address: unknown): FlowFault[] {
  const filled = fillAddress(address);
  if (filled === null) return [];
  const fault = faultOf(filled);
  return fault === null ? [] : [{ path, ...fault }];
}

/** The URL that an address makes, with something in place of each `{{…}}`; null where it makes none, whose fault `addressFaults` finds. */
export function sampleUrl(address: unknown): WebUrl | null {
  const filled = fillAddress(address);
  return filled === null || !URL.canParse(filled) ? null : new URL(filled);
}

/**
 * Whether a secret may be sent there. By http only within a machine, or a network in which hosts have no names: there is often no certificate
 * to be had.
 */
export function isFitForSecrets({ protocol, hostname }: WebUrl): boolean {
  return protocol === 'https:' || isPrivateHost(hostname);
}

/** Whether the host is written as a private address: what the system sends by itself goes there only where its operator allows it. */
export function isPrivateAddress(address: string): boolean {
  return isPrivateHost(sampleUrl(address)?.hostname ?? '');
}

/** Whether a segment of the path is `.` or `..`, however it is written: then another place is meant than the one that is written. */
export function leadsUp(address: string): boolean {
  const path = address.replace(/^https?:\/\/[^/?]*/i, '').replace(/[?#].*$/s, '');
  return path.split(/[/\\]/).some((segment) => /^(\.|%2e){1,2}$/i.test(segment));
}

const ADDRESS = new RegExp(TEXT_FORMS.urlTemplate.pattern);
/** As a URL writes its host: loopback, and what is private by RFC 1918 and RFC 4193. */
const PRIVATE_LITERAL =
  /^(?:10|127)(?:\.\d+){3}$|^192\.168(?:\.\d+){2}$|^172\.(?:1[6-9]|2\d|3[01])(?:\.\d+){2}$|^\[(?:::1|f[cd][\da-f]{2}:[\da-f:]*)\]$/;

const isPrivateHost = (hostname: string): boolean => hostname === 'localhost' || PRIVATE_LITERAL.test(hostname);

function fillAddress(address: unknown): string | null {
  if (typeof address !== 'string' || address.length > MAX_ADDRESS_CHARS || !ADDRESS.test(address)) return null;
  return address.replace(/\{\{[^{}]*\}\}/g, 'x');
}

function faultOf(address: string): Pick<FlowFault, 'message' | 'mend'> | null {
  const [, host = '', port] = /^https?:\/\/(\[[^\]]*\]|[^:/?]*)(?::(\d+))?/.exec(address) ?? [];
  if (port !== undefined && !(Number(port) >= 1 && Number(port) <= 65_535)) {
    return { message: `has a port that there is not: ${port}`, mend: 'Give a port from 1 to 65535, or none.' };
  }
  if (/^[\d.]+$/.test(host) && !isPlainIpv4(host)) {
    return {
      message: 'has a host of digits that is no IPv4 address',
      mend: 'Give a name, or an address such as 192.0.2.7.',
    };
  }
  if (!URL.canParse(`http://${host}/`)) {
    const mend = 'Give a name, or an address such as 192.0.2.7 or [2001:db8::7].';
    return { message: host.startsWith('[') ? 'has no IPv6 address in its brackets' : 'has a host that is none', mend };
  }
  if (leadsUp(address)) {
    return { message: 'has . or .. in its path', mend: 'Write the path out, without . and .. in it.' };
  }
  return null;
}

const isPlainIpv4 = (host: string): boolean => {
  const parts = host.split('.');
  return parts.length === 4 && parts.every((part) => String(Number(part)) === part && Number(part) <= 255);
};

/** The address without its query and fragment: secrets are often in there. */
export const withoutQuery = (address: string): string => address.replace(/[?#].*$/s, '');
