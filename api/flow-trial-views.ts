/** What the API shows of a flow that was tried. */
import { Type, type Static } from '@fastify/type-provider-typebox';
import type { ExplainedCondition, TriedStep } from '../routing/flow-trial.ts';
import type { TrialResult } from '../store/flow-trial.ts';
import { HintView, viewHint } from './flow-views.ts';
import { Nullable, NullableId, OneOf } from './schemas.ts';

const JsonObject = (description: string) =>
  Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true, description });

const NullableText = Nullable(Type.String());

const ConditionView = Type.Object({
  condition: Type.String(),
  value: Type.Boolean(),
  values: JsonObject('What each name in it stands for: `{"fields.purpose": "sales"}`; null: not there'),
  error: Type.Optional(Type.String({ description: 'Why it could not be decided, and counts as false' })),
});

const TextView = Type.Object({
  text: Type.String(),
  choices: Type.Optional(Type.Array(Type.Object({ value: Type.Unknown(), label: Type.String() }))),
});

const StepView = Type.Object({
  position: Type.Integer({ description: 'Among the steps of the flow, from 0' }),
  kind: Type.String(),
  outcome: OneOf(['done', 'skipped', 'failed', 'asked', 'answered', 'gave_up']),
  reason: Type.Optional(Type.String()),
  when: Type.Optional(ConditionView),
  fieldsSet: JsonObject('Fields that have another value since'),
  asked: Type.Optional(TextView),
  sent: Type.Optional(Type.String({ description: 'What the contact is told where a question gives up' })),
  answer: Type.Optional(
    Type.Array(Type.String(), { description: 'What the contact had answered, one entry for each message' }),
  ),
});

export const FlowTrialView = Type.Object({
  trigger: Type.Object({
    matched: Type.Boolean({ description: 'False: the flow does not run, and nothing more is told' }),
    ...ConditionView.properties,
    earlierFlow: Nullable(
      Type.String({
        description: 'Name of a flow before it in the order that would run instead. What follows is told all the same',
      }),
    ),
  }),
  steps: Type.Array(StepView, {
    description: 'What happened, in order: a question and its answer are two entries of the same position',
  }),
  fields: JsonObject('What enrichment found out'),
  fieldSources: JsonObject('Where each field comes from'),
  messages: Type.Array(TextView, { description: 'What the contact would be sent, in order' }),
  route: Nullable(
    Type.Object({
      kind: OneOf(['team', 'close', 'default_team'], { description: 'default_team: a step failed that must not fail' }),
      reason: Type.Optional(Type.String({ description: 'Why the default team gets it' })),
      branch: Nullable(Type.String({ description: 'null: `otherwise`, or a question that gave up' })),
      gaveUpStep: Nullable(Type.Integer({ description: 'The question that gave up, and decided' })),
      teamId: NullableId,
      teamName: NullableText,
      priority: Nullable(Type.Integer()),
      slaSeconds: Nullable(Type.Integer()),
      requirements: Nullable(Type.Unsafe<object>({ type: 'object', additionalProperties: true })),
      share: Nullable(Type.Integer({ description: 'Of a split: where the contact stands, 0 to 99' })),
      evaluated: Type.Array(Type.Object({ name: Type.String(), ...ConditionView.properties }), {
        description: 'The branches looked at, in order',
      }),
      text: NullableText,
      webhookUrl: NullableText,
    }),
  ),
  assignment: Nullable(
    Type.Object(
      {
        outcome: OneOf(['assigned', 'offered', 'waiting']),
        agentId: NullableId,
        agentName: NullableText,
        summary: Type.String({ description: 'Why, in one sentence' }),
        explanation: JsonObject('Why, in full: as a decision about an assignment tells it'),
      },
      { description: 'Who would get it now; null where it is closed or the flow does not run' },
    ),
  ),
  hints: Type.Array(HintView, { description: 'No faults of the document, but hardly meant' }),
});

export function viewFlowTrial(result: TrialResult): Static<typeof FlowTrialView> {
  const { trigger, steps, fields, fieldSources, messages, assignment, earlierFlow, hints } = result;
  return {
    trigger: { matched: trigger.value, ...viewCondition(trigger), earlierFlow },
    steps: steps.map(viewStep),
    fields: { ...fields },
    fieldSources: { ...fieldSources },
    messages: messages.map(viewText),
    route: viewRoute(result),
    assignment: assignment === null ? null : { ...assignment, explanation: { ...assignment.explanation } },
    hints: hints.map(viewHint),
  };
}

function viewRoute(result: TrialResult): Static<typeof FlowTrialView>['route'] {
  const { route, failure, teamNames, defaultTeamId } = result;
  const evaluated = result.evaluated.map(({ name, ...condition }) => ({ name, ...viewCondition(condition) }));
  const nameOf = (teamId: string | null) => (teamId === null ? null : (teamNames.get(teamId) ?? null));
  if (failure !== null) {
    const team = { teamId: defaultTeamId, teamName: nameOf(defaultTeamId), priority: 0 };
    return { ...emptyRoute, ...team, kind: 'default_team', reason: failure, evaluated };
  }
  if (route === null) return null;
  const { branch, text, webhookUrl } = route;
  const decided = { branch, gaveUpStep: route.gaveUpStep ?? null, evaluated, text, webhookUrl };
  if (route.kind === 'close') return { ...emptyRoute, ...decided, kind: 'close' };
  const { teamId, priority, slaSeconds, requirements, share = null } = route;
  const team = { teamId, teamName: nameOf(teamId), priority, slaSeconds, requirements, share };
  return { ...decided, ...team, kind: 'team' };
}

const emptyRoute = {
  branch: null,
  gaveUpStep: null,
  teamId: null,
  teamName: null,
  priority: null,
  slaSeconds: null,
  requirements: null,
  share: null,
  text: null,
  webhookUrl: null,
};

function viewCondition({ condition, value, values, error }: ExplainedCondition) {
  return { condition, value, values: { ...values }, ...(error !== undefined && { error }) };
}

function viewStep({ position, kind, outcome, reason, when, fieldsSet, asked, sent, answer }: TriedStep) {
  return {
    position,
    kind,
    outcome,
    ...(reason !== undefined && { reason }),
    ...(when !== undefined && { when: viewCondition(when) }),
    fieldsSet: { ...fieldsSet },
    ...(asked !== undefined && { asked: viewText(asked) }),
    ...(sent !== undefined && { sent }),
    ...(answer !== undefined && { answer: [...answer] }),
  };
}

function viewText({ text, choices }: TriedText) {
  return { text, ...(choices !== undefined && { choices: choices.map(({ value, label }) => ({ value, label })) }) };
}

type TriedText = TrialResult['messages'][number];
