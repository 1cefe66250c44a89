/** The shape of a flow's document: as type, as what validation goes by, and as JSON Schema for whoever writes flows. */
import { Type, type Static } from 'typebox';
import { requirementMembers } from './flow-requirements.ts';
import { Hours } from './hours-schema.ts';
import { Close, Condition, MessageText, Priority, TeamId } from './schema-members.ts';
import { EnrichmentStep } from './step-schemas.ts';
import { MAX_ADDRESS_CHARS, TEXT_FORMS } from './text-forms.ts';

/** Of any list, but for the holidays of some hours: what limits one list is no higher. */
export const MAX_LIST_ITEMS = 50;
export const MAX_STEPS = 20;
export const MAX_BRANCHES = 50;
export const MAX_SPLIT_PARTS = 10;

const Name = Type.String({ minLength: 1, maxLength: 100, ...TEXT_FORMS.notBlank });
const WebAddress = Type.String({ maxLength: MAX_ADDRESS_CHARS, ...TEXT_FORMS.url });

const Trigger = Type.Object(
  {
    on: Type.Literal('conversation.opened'),
    condition: Condition('conversation, contact, channel, message and hours'),
  },
  { additionalProperties: false },
);

/** Where a branch sends a conversation: one of teamId, split and close. */
const destinationMembers = {
  teamId: Type.Optional(TeamId),
  split: Type.Optional(
    Type.Array(
      Type.Object(
        { percent: Type.Integer({ minimum: 1, maximum: 99 }), teamId: TeamId },
        { additionalProperties: false },
      ),
      {
        minItems: 2,
        maxItems: MAX_SPLIT_PARTS,
        description: 'Shares of the contacts, 100 in sum; a contact keeps its team',
      },
    ),
  ),
  close: Type.Optional(Close),
  priority: Type.Optional(Priority),
  slaSeconds: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 604_800, description: "Wait aimed at; left out: the team's" }),
  ),
  text: Type.Optional(MessageText),
  webhookUrl: Type.Optional(WebAddress),
  ...requirementMembers,
};

const Branch = Type.Object(
  {
    name: Name,
    when: Condition('conversation, contact, channel, message, hours, fields and the load of its team'),
    ...destinationMembers,
  },
  { additionalProperties: false },
);

const Routing = Type.Object(
  {
    branches: Type.Array(Branch, {
      maxItems: MAX_BRANCHES,
      description: 'The first branch whose condition is true decides',
    }),
    otherwise: Type.Object(destinationMembers, { additionalProperties: false }),
  },
  { additionalProperties: false },
);

/** What a flow does, apart from its name and description: when it runs, what it finds out, and where the conversation goes. */
export const FlowDocument = Type.Object(
  {
    trigger: Trigger,
    hours: Type.Optional(Hours),
    enrichment: Type.Array(EnrichmentStep, { maxItems: MAX_STEPS }),
    routing: Routing,
  },
  { additionalProperties: false },
);

export type FlowDocument = Static<typeof FlowDocument>;
export type FlowBranch = Static<typeof Branch>;
export type FlowDestination = FlowDocument['routing']['otherwise'];
