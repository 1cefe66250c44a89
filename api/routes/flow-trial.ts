import { Type, type FastifyPluginAsyncTypebox, type Static } from '@fastify/type-provider-typebox';
import { MAX_ANSWER_MESSAGES } from '../../routing/answer.ts';
import { runFlowTrial, type TrialRefusal, type TrialRequest } from '../../store/flow-trial.ts';
import type { ApiDeps } from '../dependencies.ts';
import { DocumentedDocument, OpenDocument } from '../flow-document-schema.ts';
import { FlowTrialView, viewFlowTrial } from '../flow-trial-views.ts';
import { invalidFlow, unknownVersion } from '../flow-views.ts';
import { problem, type Problem } from '../problems.ts';
import { Attributes, Body, errorResponses, Id, IdParams, SafeText, TimestampInput } from '../schemas.ts';
import { escapePointer } from '../text-check.ts';

export function flowTrialRoutes({ pool }: ApiDeps): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      '/flows/:id/try',
      {
        config: { scope: 'admin' },
        schema: {
          tags: ['Flows'],
          summary: 'Try a flow on a described contact and message',
          description: `${whatItDoes} Tried is the draft, the live version or any other.`,
          params: IdParams,
          body: Body({ version: Type.Optional(Version), ...trialMembers }),
          response: { 200: FlowTrialView, ...errorResponses(404, 422) },
        },
      },
      async ({ principal: { workspaceId }, params, body: { version = 'draft', ...body } }) => {
        const result = await runFlowTrial(pool, {
          ...requestOf(body),
          workspaceId,
          flow: { flowId: params.id, version },
        });
        if (result.kind !== 'tried') throw refusalProblem(result);
        return viewFlowTrial(result);
      },
    );

    app.post(
      '/flows/try',
      {
        config: {
          scope: 'admin',
          documentedBody: Body({ document: DocumentedDocument, name: Type.Optional(FlowName), ...trialMembers }),
        },
        schema: {
          tags: ['Flows'],
          summary: 'Try a document that is not stored',
          description: `${whatItDoes} The document is checked first, as a draft would be.`,
          body: Body({ document: OpenDocument, name: Type.Optional(FlowName), ...trialMembers }),
          response: { 200: FlowTrialView, ...errorResponses(422) },
        },
      },
      async ({ principal: { workspaceId }, body: { document, name = null, ...body } }) => {
        const result = await runFlowTrial(pool, { ...requestOf(body), workspaceId, flow: { document, name } });
        if (result.kind !== 'tried') throw refusalProblem(result);
        return viewFlowTrial(result);
      },
    );
  };
}

const whatItDoes =
  'Tells the path that a conversation would take: each condition with what it saw, what the contact would be sent, where the conversation would go ' +
  'and who would get it now, and why. Nothing is changed, nobody is written to and no other system is called.';

const FlowName = SafeText(200, {
  description:
    'The document stands in the place of the flow with this name in the order; left out, or unknown: behind all others',
});

const Version = Type.Unsafe<number | 'draft' | 'live'>({
  type: ['integer', 'string'],
  minimum: 1,
  maximum: 999_999_999,
  pattern: '^(draft|live)$',
  description: 'Number of a published version, `live` or `draft`',
  default: 'draft',
  fault: 'names no version',
  mend: 'Send the number of a version, "live" or "draft".',
});

const Count = Type.Integer({ minimum: 0, maximum: 1_000_000 });

const TriedContact = Body(
  {
    id: Type.Optional(Id),
    name: Type.Optional(SafeText(256)),
    attributes: Type.Optional(Attributes('In the place of those that the contact has')),
    lifecycle: Type.Optional(SafeText(1000, { description: 'The attribute of that name' })),
    history: Type.Optional(
      Body(
        {
          conversationCount: Type.Optional(Count),
          lastAgentId: Type.Optional(Id),
          lastCategory: Type.Optional(SafeText(256)),
        },
        { description: 'Earlier conversations' },
      ),
    ),
  },
  {
    description:
      'A contact of the workspace by `id`, or one that is only described; what is described besides an id replaces what is known',
  },
);

/** One schema for both, so that what is neither is told once. */
const Answer = Type.Unsafe<string | string[]>({
  type: ['string', 'array'],
  maxLength: 4096,
  minItems: 1,
  maxItems: MAX_ANSWER_MESSAGES,
  items: { type: 'string', maxLength: 4096 },
});

const trialMembers = {
  channel: Type.Optional(SafeText(64, { description: 'Key; left out: the channel that was made first' })),
  contact: Type.Optional(TriedContact),
  message: Body({ text: SafeText(16_384, { minLength: 0, description: 'What the contact wrote' }) }),
  at: Type.Optional({ ...TimestampInput, description: 'When, for business hours; left out: now' }),
  share: Type.Optional(
    Type.Integer({
      minimum: 0,
      maximum: 99,
      description:
        'Into which hundredth the contact falls in a `split`, counted along its shares; left out: where its id leads',
    }),
  ),
  answers: Type.Optional(
    Type.Array(Answer, {
      maxItems: 100,
      description:
        'What the contact answers to each question in turn; a list is one answer in several messages. Where none is left, the question ' +
        'times out',
    }),
  ),
  responses: Type.Optional(
    Type.Record(Type.String({ pattern: '^[0-9]{1,2}$' }), Type.Unknown(), {
      description:
        'What other systems respond, by the position of the step from 0: the body for `http`, a label or {label, confidence} for `classify`. ' +
        'Without one, the step counts as failed; a label without a confidence fails where the step has `minConfidence`',
    }),
  ),
};

const TrialBody = Body(trialMembers);

type RequestMembers = Omit<TrialRequest, 'workspaceId' | 'flow'>;

function requestOf(body: Static<typeof TrialBody>): RequestMembers {
  const { channel = null, contact = {}, message, at, answers = [], responses = {}, share } = body;
  const atMs = at === undefined ? null : Date.parse(at);
  return { channel, contact, text: message.text, atMs, answers, responses, share };
}

function refusalProblem(refusal: TrialRefusal): Problem {
  switch (refusal.kind) {
    case 'not_found':
      return problem('not_found');
    case 'invalid':
      return invalidFlow(refusal);
    case 'unknown_responses':
      return unknownResponses(refusal);
    case 'unknown':
      return UNKNOWN[refusal.what]();
  }
}

function unknownResponses({ keys, positions }: Extract<TrialRefusal, { kind: 'unknown_responses' }>): Problem {
  const mend =
    positions.length === 0
      ? 'Remove it: the flow has no such step.'
      : `Name a step by its position, counted from 0: ${positions.join(', ')}.`;
  return problem('unknown_reference', {
    errors: keys.slice(0, MAX_TOLD_KEYS).map((key) => ({
      field: `/responses/${escapePointer(key)}`,
      message: 'names no `http` or `classify` step',
      mend,
    })),
  });
}

/** A flow has fewer steps. */
const MAX_TOLD_KEYS = 50;

const UNKNOWN: Readonly<Record<'version' | 'channel' | 'contact', () => Problem>> = {
  version: () => unknownVersion('/version', 'Send the number of a version, "draft", or "live" once it is published.'),
  channel: () =>
    problem('unknown_reference', {
      errors: [{ field: '/channel', message: 'there is no such channel', mend: 'Send a key of GET /v1/channels.' }],
    }),
  contact: () =>
    problem('unknown_reference', {
      errors: [
        { field: '/contact/id', message: 'there is no contact with this id', mend: 'Send an id of GET /v1/contacts.' },
      ],
    }),
};
