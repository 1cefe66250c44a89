/** The examples of docs/assignment.md: how they are found, and what they may say. Whatever nobody would run is an error. */
import { Type, type Static, type TProperties } from 'typebox';
import { Errors } from 'typebox/value';

const Obj = <Properties extends TProperties>(properties: Properties) =>
  Type.Object(properties, { additionalProperties: false });
const Name = Type.String({ pattern: '^[A-Za-z]+$' });
/** Left to the API, which refuses what it does not know. */
const Body = Type.Record(Type.String(), Type.Unknown());

/** What is looked at, after all that was said has happened. `because` is about the conversation named last that somebody has. */
const outcome = {
  /** Conversation to agent; null: waiting, and not offered. */
  offered: Type.Optional(Type.Record(Name, Name)),
  because: Type.Optional(Type.String()),
  /** Conversation to `closing.reason`. */
  closed: Type.Optional(Type.Record(Name, Type.Enum(['agent', 'inactivity', 'nobody_available']))),
  presence: Type.Optional(Type.Record(Name, Type.Enum(['online', 'away', 'offline']))),
  load: Type.Optional(Type.Record(Name, Type.Integer())),
  position: Type.Optional(Type.Record(Name, Type.Integer())),
  /** Members of `GET /v1/conversations/{id}`. */
  conversation: Type.Optional(Type.Record(Name, Body)),
  /** Members of `GET /v1/teams/{id}/queue`. */
  queue: Type.Optional(Body),
  /** Members of the problem with which it is refused. */
  refused: Type.Optional(Type.Object({ status: Type.Integer() })),
};

const Holders = Type.Record(Name, Type.Union([Name, Type.Null()]));

const Step = Obj({ step: Type.String(), ...outcome, assigned: Type.Optional(Holders) });
export type Step = Static<typeof Step>;
export type Outcome = Omit<Step, 'step'>;

const Agent = Obj({
  name: Name,
  capacity: Type.Integer(),
  skills: Type.Optional(Body),
  channelLimits: Type.Optional(Body),
  presence: Type.Optional(Type.Enum(['away', 'offline'])),
  team: Type.Optional(Name),
});

const arriving = {
  arrivals: Type.Optional(Type.Array(Type.String(), { minItems: 1 })),
  /** In the order of the arrivals. */
  assigned: Type.Optional(Type.Array(Type.Union([Name, Type.Null()]))),
};

const Example = Obj({
  team: Body,
  otherTeams: Type.Optional(Type.Record(Name, Body)),
  workspace: Type.Optional(Body),
  closeCategories: Type.Optional(Type.Array(Type.String())),
  channels: Type.Optional(Type.Record(Name, Type.Integer())),
  agents: Type.Array(Agent, { minItems: 1 }),
  enrichment: Type.Optional(Type.Array(Body)),
  requirements: Type.Optional(Type.Array(Body)),
  rings: Type.Optional(Type.Array(Body)),
  ...arriving,
  ...outcome,
  then: Type.Optional(Type.Array(Step)),
});
export type Example = Static<typeof Example>;

export function parseExample(json: string): Example {
  const example: unknown = JSON.parse(json);
  const faults = [...Errors(Example, example)].map(({ instancePath, message }) => `${instancePath} ${message}`);
  if (faults.length > 0) throw new Error(`The example cannot be run:\n${faults.join('\n')}`);
  const { arrivals, assigned, refused } = example as Example;
  if (refused === undefined && (arrivals === undefined || arrivals.length !== assigned?.length)) {
    throw new Error('An example says who gets each of its arrivals, or how its flow is refused.');
  }
  const unheard = Object.keys(example as Example).filter(
    (member) => member === 'then' || member in outcome || member in arriving,
  );
  if (refused !== undefined && unheard.length > 1)
    throw new Error(`Nothing arrives by a flow that is refused: ${unheard.join()}`);
  return example as Example;
}

export interface Arrival {
  readonly name: string;
  readonly channel: string;
  /** Another conversation, whose contact it is that writes. */
  readonly sameContactAs: string | null;
  readonly priority: number;
  /** What is written. */
  readonly text: string;
}

/** Such as `second on phone from the contact of first with priority 5: Hello`. */
export function parseArrival(arrival: string): Arrival {
  const form =
    /^([A-Za-z]+)(?: on ([a-z]+))?(?: from the contact of ([A-Za-z]+))?(?: with priority (\d+))?(?:: (.+))?$/;
  const [, name, channel, sameContactAs, priority, text] = form.exec(arrival) ?? [];
  if (name === undefined) throw new Error(`Nobody knows how this arrives: ${arrival}`);
  return {
    name,
    channel: channel ?? 'chat',
    sameContactAs: sameContactAs ?? null,
    priority: Number(priority ?? 0),
    text: text ?? 'Hello',
  };
}

/** All that arrives, at the beginning and in later steps. */
export function arrivalsOf({ arrivals = [], then = [] }: Example): Arrival[] {
  const later = then.flatMap(({ step }) => {
    const match = /^([A-Za-z]+) arrives(.*)$/.exec(step);
    return match === null ? [] : [`${match[1]}${match[2]}`];
  });
  return [...arrivals, ...later].map(parseArrival);
}

export interface Fence {
  readonly line: number;
  readonly heading: string;
  /** What stands behind the opening fence. */
  readonly info: string;
  readonly text: string;
}

export function readFences(markdown: string): Fence[] {
  const fences: Fence[] = [];
  let heading = '';
  let open: { line: number; info: string; text: string[] } | null = null;
  for (const [index, line] of markdown.split('\n').entries()) {
    const mark = /^\s*(?:`{3,}|~{3,})\s*(.*)$/.exec(line);
    if (open === null) {
      if (mark !== null) open = { line: index + 1, info: mark[1]!.trim(), text: [] };
      else if (line.startsWith('#')) heading = line.replaceAll(/[#`]/g, '').trim();
    } else if (mark !== null && mark[1] === '') {
      fences.push({ line: open.line, heading, info: open.info, text: open.text.join('\n') });
      open = null;
    } else {
      open.text.push(line);
    }
  }
  if (open !== null) throw new Error(`The block in line ${open.line} has no end.`);
  return fences;
}
