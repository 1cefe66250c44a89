/** The examples of docs/flows.md: what they may say. Whatever nobody would run is an error. */
import { Type, type Static, type TProperties, type TSchema } from 'typebox';
import { Errors } from 'typebox/value';

const Obj = <Properties extends TProperties>(properties: Properties) =>
  Type.Object(properties, { additionalProperties: false });
const Name = Type.String({ pattern: '^[A-Za-z]+$' });
/** Left to the API, which refuses what it does not know. */
const Body = Type.Record(Type.String(), Type.Unknown());
const IsOpen = Type.Record(Name, Type.Enum(['open', 'closed']));

const Request = Obj({
  request: Type.String({ pattern: '^(GET|POST) https://(crm|hooks)[.]example[.]com/' }),
  headers: Type.Optional(Type.Record(Type.String(), Type.String())),
  body: Type.Optional(Body),
});

/** What is looked at after a step, of the contact whom it is about. */
const Step = Obj({
  step: Type.String(),
  /** Texts to the contact since the step began: all of them, in order. Left out: none. */
  sent: Type.Optional(Type.Array(Type.String())),
  /** What the other systems were asked meanwhile, and what they were told. */
  asked: Type.Optional(Type.Array(Request)),
  told: Type.Optional(Type.Array(Request)),
  state: Type.Optional(Type.Enum(['enriching', 'waiting', 'assigned', 'closed'])),
  /** Null: waiting. */
  assigned: Type.Optional(Type.Union([Name, Type.Null()])),
  team: Type.Optional(Type.Union([Type.Literal('the same'), Name, Type.Array(Name)])),
  priority: Type.Optional(Type.Integer()),
  /** Nothing but these where there are none, else at least these. */
  fields: Type.Optional(Body),
  sources: Type.Optional(Body),
  /** With which it was closed. */
  reason: Type.Optional(Type.String()),
  fellBack: Type.Optional(Type.Literal(true)),
  because: Type.Optional(Type.String()),
});
export type Step = Static<typeof Step>;

const Agent = Obj({
  name: Name,
  team: Name,
  capacity: Type.Integer(),
  skills: Type.Optional(Body),
  presence: Type.Optional(Type.Enum(['away', 'offline'])),
});

const setting = {
  document: Body,
  teams: Type.Record(Name, Body),
  agents: Type.Array(Agent, { minItems: 1 }),
};

const Example = Obj({
  ...setting,
  /** Attributes by name. */
  contacts: Type.Optional(Type.Record(Name, Body)),
  now: Type.Optional(IsOpen),
  secrets: Type.Optional(Type.Record(Name, Type.String())),
  /** Request to answer; what is not there is not found. */
  systems: Type.Optional(Body),
  /** What the model says to whom it hears say this. */
  model: Type.Optional(Type.Record(Type.String(), Obj({ label: Type.String(), confidence: Type.Number() }))),
  story: Type.Array(Step, { minItems: 1 }),
});
export type Example = Static<typeof Example>;

/** What is told beforehand by `POST /v1/flows/try`, and a part of its answer. */
const TryExample = Obj({ ...setting, try: Body, answer: Body });
type TryExample = Static<typeof TryExample>;

/** The same of the example before it, several times. */
const Tries = Type.Array(Obj({ try: Body, answer: Body }), { minItems: 1 });

/** Who says nothing of teams and agents means one who may take it all. */
const plain = { teams: { Support: {} }, agents: [{ name: 'Uma', team: 'Support', capacity: 10 }] };

export const parseExample = (json: string): Example => parse(Example, { ...plain, ...JSON.parse(json) });
export const parseTryExample = (json: string): TryExample => parse(TryExample, { ...plain, ...JSON.parse(json) });
export const parseTries = (json: string): Static<typeof Tries> => parse(Tries, JSON.parse(json));

function parse<Schema extends TSchema>(schema: Schema, example: unknown): Static<Schema> {
  const faults = [...Errors(schema, example)].map(({ instancePath, message }) => `${instancePath} ${message}`);
  if (faults.length > 0) throw new Error(`The example cannot be run:\n${faults.join('\n')}`);
  return example as Static<Schema>;
}

export type IsOpen = Static<typeof IsOpen>;

/** Such as `office closed, hotline open`. */
export function parseHours(words: string): IsOpen {
  return Object.fromEntries(words.split(', ').map((pair) => pair.split(' ') as [string, 'open' | 'closed']));
}
