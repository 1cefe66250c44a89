import { asksContact, DEFAULT_TRIGGER } from './flow-document.ts';
import type { FlowDocument } from './flow-schema.ts';
import { findImpossibleValues } from './impossible-values.ts';
import { isObject } from './json-walk.ts';
import { isPrivateAddress, withoutQuery } from './web-address.ts';

/** What is no fault of a flow, but hardly what was meant: sentences for people. */
export function findFlowHints(flow: FlowDocument, around: FlowSurroundings): string[] {
  const { before, after, teamsWithoutAgents } = around;
  return [
    ...orderHints(flow.trigger.condition, { before, after }),
    ...findImpossibleValues(flow).slice(0, MAX_NAMED),
    ...teamHints(flow, teamsWithoutAgents),
    ...webhookHints(flow),
    ...(asksContact(flow) ? channelHints(flow.trigger.condition, around) : []),
  ];
}

export interface FlowSurroundings {
  /** The live flows that are asked before this one, and after it. */
  readonly before: readonly LiveFlow[];
  readonly after: readonly LiveFlow[];
  /** Names by id. */
  readonly teamsWithoutAgents: ReadonlyMap<string, string>;
  /** Whether any channel takes what is sent to contacts. */
  readonly reachesContacts: boolean;
  /** Keys of those that do not. */
  readonly silentChannels: readonly string[];
}

export interface LiveFlow {
  readonly name: string;
  /** Of its trigger. */
  readonly condition: string;
}

/** Conditions are not understood here: only what takes every contact's conversation, and the same text again. */
function orderHints(condition: string, { before, after }: Pick<FlowSurroundings, 'before' | 'after'>): string[] {
  const first = before.find((other) => takesWhatever(other.condition, condition));
  if (first !== undefined) {
    return [
      `It never runs: the flow “${first.name}”, which is asked before it, takes whatever it would take. Change the order of the flows, or one of ` +
        'the conditions.',
    ];
  }
  const hidden = after.filter((other) => takesWhatever(condition, other.condition)).map(({ name }) => `“${name}”`);
  if (hidden.length === 0) return [];
  return [
    `It takes whatever ${hidden.length === 1 ? 'this flow' : 'these flows'} after it would take, so that they never run: ` +
      `${listNamed(hidden)}.`,
  ];
}

/** Flows run for what contacts open, so that the default condition is always true. */
function takesWhatever(first: string, second: string): boolean {
  const condition = plain(first);
  return condition === 'true' || condition === plain(DEFAULT_TRIGGER.condition) || condition === plain(second);
}

/** Blanks and the kind of quotes make no difference that matters to a hint. */
const plain = (condition: string): string => condition.replaceAll(/\s+/g, ' ').replaceAll('"', "'").trim();

function channelHints(
  condition: string,
  { reachesContacts, silentChannels }: Pick<FlowSurroundings, 'reachesContacts' | 'silentChannels'>,
): string[] {
  if (!reachesContacts) return [UNHEARD];
  // A trigger that looks at the channel may leave those out that are silent, so only those count that it plainly names.
  const meant = condition.includes('channel')
    ? silentChannels.filter((key) => plain(condition).includes(`channel.key == '${key}'`))
    : silentChannels;
  if (meant.length === 0) return [];
  return [
    `It asks the contact, and ${meant.length === 1 ? 'the channel' : 'the channels'} ${listNamed(meant.map((key) => `“${key}”`))} ` +
      `${meant.length === 1 ? 'has' : 'have'} no address for what goes out (\`outboundUrl\`): what is asked there stands only in the feed of events.`,
  ];
}

const UNHEARD =
  'It asks the contact, and no channel has an address for what goes out (`outboundUrl`): nobody would see the questions, and each would time out, ' +
  'unless you send them from the feed of events yourself.';

function listNamed(names: readonly string[]): string {
  const rest = names.length > MAX_NAMED ? ` and ${names.length - MAX_NAMED} more` : '';
  return `${names.slice(0, MAX_NAMED).join(', ')}${rest}`;
}

function teamHints(flow: FlowDocument, teamsWithoutAgents: ReadonlyMap<string, string>): string[] {
  const named = textsIn(flow, TEAM_MEMBERS);
  return [...teamsWithoutAgents]
    .filter(([teamId]) => named.has(teamId))
    .slice(0, MAX_NAMED)
    .map(([, name]) => `The team “${name}”, which the flow names, has no agents: what comes to it waits.`);
}

/** A name may lead anywhere, by the time that it is asked. */
function webhookHints(flow: FlowDocument): string[] {
  const addresses = [...textsIn(flow.routing, WEBHOOK_MEMBERS)].filter(isPrivateAddress).map(withoutQuery);
  return [...new Set(addresses)]
    .slice(0, MAX_NAMED)
    .map(
      (url) =>
        `The webhook ${url} is at a private address: it is told only where OUTBOUND_PRIVATE_CIDRS has that address.`,
    );
}

const WEBHOOK_MEMBERS: ReadonlySet<string> = new Set(['webhookUrl']);
/** Every team that the flow may send a conversation to. */
const TEAM_MEMBERS: ReadonlySet<string> = new Set(['teamId', 'overflowTeamId']);

/** The texts of all members of these names, wherever they are. */
function textsIn(value: unknown, names: ReadonlySet<string>, found = new Set<string>()): Set<string> {
  if (Array.isArray(value)) {
    for (const item of value) textsIn(item, names, found);
  } else if (isObject(value)) {
    for (const [key, member] of Object.entries(value)) {
      if (names.has(key) && typeof member === 'string') found.add(member);
      else textsIn(member, names, found);
    }
  }
  return found;
}

const MAX_NAMED = 5;
