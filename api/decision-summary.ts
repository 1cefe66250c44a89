import { explainAssignment, type AssignmentExplanation } from '../routing/explanation.ts';
import { isObject } from '../routing/json-walk.ts';
import { describeSkill, type SkillRequirement } from '../routing/requirements.ts';
import type { DecisionRow } from '../store/conversations.ts';

/** One sentence for people. The detail is what was stored at the time, perhaps by an older version: it may lack anything. */
export function summarizeDecision({ kind, detail }: Pick<DecisionRow, 'kind' | 'detail'>): string {
  switch (kind) {
    case 'assignment':
      return summarizeAssignment(detail);
    case 'routing':
      return summarizeRouting(detail);
    case 'enrichment':
      return summarizeEnrichment(detail);
  }
}

function summarizeAssignment(detail: Record<string, unknown>): string {
  if (isExplanation(detail)) return explainAssignment(detail);
  if (typeof detail['offer'] === 'string') return summarizeOffer(detail['offer'], detail);
  if (Array.isArray(detail['rings'])) {
    const { messageId, webhook } = detail;
    return `${summarizeRings(detail['rings'])}${summarizeSent(messageId !== undefined, webhook === true)}`;
  }
  const by = typeof detail['byAgentId'] === 'string' ? `Agent ${detail['byAgentId']}` : 'A person';
  const note = typeof detail['note'] === 'string' && detail['note'] !== '' ? ` Note: ${detail['note']}` : '';
  if (typeof detail['chosen'] !== 'string') return `${summarizeQueueing(by, detail)}.${note}`;
  const forced = detail['forced'] === true ? ', over the capacity' : '';
  return `${by} assigned the conversation to agent ${detail['chosen']}${forced}.${note}`;
}

function summarizeOffer(outcome: string, detail: Record<string, unknown>): string {
  const agent = typeof detail['agentId'] === 'string' ? `Agent ${detail['agentId']}` : 'The agent';
  const reason = typeof detail['reason'] === 'string' ? detail['reason'].replace(/[\s.]+$/, '').trim() : '';
  switch (outcome) {
    case 'accepted':
      return `${agent} accepted the offer.`;
    case 'rejected':
      return endSentence(`${agent} rejected the offer${reason === '' ? '' : `: ${reason}`}`);
    case 'expired':
      return `${agent} did not answer the offer in time.`;
    default:
      return `The offer to ${agent.toLowerCase()} was withdrawn${withdrawals[String(detail['reason'])] ?? ''}.`;
  }
}

/** Both are on their way then, and may yet fail: their deliveries tell. */
const summarizeSent = (text: boolean, webhook: boolean): string =>
  `${text ? ' The contact is sent a text.' : ''}${webhook ? ' A webhook is told.' : ''}`;

/** Those that have passed, as many as there were due at once. */
function summarizeRings(rings: readonly unknown[]): string {
  const told = objectsIn(rings).map(summarizePassedRing);
  const rest = told.length > MAX_SHOWN ? ` ${count(told.length - MAX_SHOWN, 'ring')} more passed.` : '';
  return told.length === 0 ? 'A ring passed.' : `${told.slice(0, MAX_SHOWN).join(' ')}${rest}`;
}

function summarizePassedRing({ afterSeconds, change, levels, teamId, then }: Record<string, unknown>): string {
  const after = `After ${String(afterSeconds)} s`;
  switch (change) {
    case 'relax': {
      const relaxed = objectsIn(levels).map(({ skill, level }) =>
        level === 0 ? `${String(skill)} was dropped` : `${String(skill)} was relaxed to ≥ ${String(level)}`,
      );
      return `${after} ${relaxed.length === 0 ? 'less was asked for' : listShown(relaxed)}.`;
    }
    case 'overflow':
      return `${after} it overflowed to team ${String(teamId)}.`;
    case 'fallback':
      return then === 'close'
        ? `Nobody was available for ${String(afterSeconds)} s, so it was closed.`
        : `${after} nobody had been available, and it was left waiting.`;
    default:
      return `${after} a ring passed.`;
  }
}

const withdrawals: Readonly<Record<string, string>> = {
  assigned_by_hand: ', because a person gave it to another',
  transferred: ', because a person moved it',
  put_back: ', because a person moved it',
  closed: ', because it was closed',
  agent_left: ', because the agent went away',
};

function summarizeQueueing(by: string, detail: Record<string, unknown>): string {
  const queue = typeof detail['teamId'] === 'string' ? `the queue of team ${detail['teamId']}` : 'a queue';
  const agent = typeof detail['from'] === 'string' ? `agent ${detail['from']}` : 'the agent';
  switch (detail['reason']) {
    case 'agent_offline':
      return `The conversation went back to ${queue}, because ${agent} is offline`;
    case 'silence':
      return `The conversation went back to ${queue}, because ${agent} did not reply in time`;
    case 'woken_without_room':
      return `The contact wrote again and ${agent} had no room, so the conversation went back to ${queue}`;
    case 'transferred':
      return `${by} transferred the conversation to ${queue}`;
    default:
      return `${by} put the conversation into ${queue}`;
  }
}

function isExplanation(detail: object): detail is AssignmentExplanation {
  return 'strategy' in detail && 'candidates' in detail && 'otherCounts' in detail;
}

function summarizeRouting(detail: Record<string, unknown>): string {
  const flow = nameFlow(detail);
  const triggers = objectsIn(detail['triggerErrors']).length;
  const passedOver =
    triggers === 0 ? '' : ` ${count(triggers, 'trigger')} could not be evaluated and counted as false.`;
  if (typeof detail['reason'] === 'string') {
    return `The default team got it, because ${detail['reason']}${flow === '' ? '' : ` (${flow})`}.${passedOver}`;
  }
  // Of the opening: what the flow decided is told by another.
  if (triggers > 0) return `${flow === '' ? 'A flow' : upperFirst(flow)} was chosen.${passedOver}`;
  const evaluated = Array.isArray(detail['evaluated']) ? (detail['evaluated'] as unknown[]) : [];
  const failed = evaluated.filter((branch) => isObject(branch) && typeof branch['error'] === 'string').length;
  const failures = failed === 0 ? '' : ` ${count(failed, 'condition')} could not be evaluated and counted as false.`;
  const sent = summarizeSent(typeof detail['text'] === 'string', typeof detail['webhookUrl'] === 'string');
  const more = `${summarizeRequirements(detail)}${sent}${failures}`;
  const chose = summarizeDestination(detail);
  const of = flow === '' ? '' : ` of ${flow}`;
  if (typeof detail['branch'] === 'string') return `The branch “${detail['branch']}”${of} applied and ${chose}.${more}`;
  if (typeof detail['gaveUpStep'] === 'number') {
    return `Step ${detail['gaveUpStep'] + 1}${of} got no answer and ${chose}.${more}`;
  }
  const tried =
    evaluated.length === 0 ? 'The flow has no branch' : `None of ${count(evaluated.length, 'branch')} applied`;
  return `${tried}, so “otherwise”${of} ${chose}.${more}`;
}

/** Such as `version 3 of the flow “Support”`; empty where the decision tells no flow. */
function nameFlow({ flowName, flowVersionNumber: number }: Record<string, unknown>): string {
  const version = typeof number === 'number' ? `version ${number}` : '';
  if (typeof flowName !== 'string') return version === '' ? '' : `flow ${version}`;
  return `${version === '' ? '' : `${version} of `}the flow “${flowName}”`;
}

function summarizeDestination({ kind, close, teamId, priority, slaSeconds, share }: Record<string, unknown>): string {
  if (kind === 'close' || close === true) return 'closed the conversation';
  const team = typeof teamId === 'string' ? `team ${teamId}` : 'a team';
  const chosen = typeof share === 'number' ? `${team} by the contact’s share` : team;
  const aim = typeof slaSeconds === 'number' ? ` and a wait of at most ${slaSeconds} s as its aim` : '';
  return `chose ${chosen}${typeof priority === 'number' ? ` with priority ${priority}` : ''}${aim}`;
}

function summarizeRequirements({ requirements, missingFields }: Record<string, unknown>): string {
  const { skills, rings } = isObject(requirements) ? requirements : {};
  const asked = listShown(objectsIn(skills).filter(isSkill).map(describeSkill));
  const changes = objectsIn(rings).map(summarizeRing);
  const clauses = [...(asked === '' ? [] : [`asks for ${asked}`]), ...changes.slice(0, MAX_SHOWN)];
  const rest = changes.length > MAX_SHOWN ? `; then ${count(changes.length - MAX_SHOWN, 'ring')} more` : '';
  const told =
    clauses.length === 0 ? '' : ` It ${asked === '' ? 'asks for no skill; ' : ''}${clauses.join('; ')}${rest}.`;
  return `${told}${summarizeMissing(Array.isArray(missingFields) ? missingFields.map(String) : [])}`;
}

function summarizeMissing(fields: readonly string[]): string {
  if (fields.length === 0) return '';
  const shown = listShown(fields);
  return fields.length === 1
    ? ` The field ${shown} names no skill, so it asks for none.`
    : ` The fields ${shown} name no skill, so they ask for none.`;
}

function isSkill(value: Record<string, unknown>): value is Record<string, unknown> & SkillRequirement {
  return 'skill' in value && 'level' in value && 'preferred' in value;
}

/** Such as `after 30 s relaxed to spanish ≥ 2`. */
function summarizeRing({ afterSeconds, kind, levels, teamId, then, text }: Record<string, unknown>): string {
  const after = `after ${String(afterSeconds)} s`;
  switch (kind) {
    case 'relax':
      return `${after} ${listShown(objectsIn(levels).map(summarizeLevel))}`;
    case 'overflow':
      return `${after} overflow to team ${String(teamId)}`;
    case 'fallback':
      return `${after} ${then === 'close' ? 'closed' : 'left waiting'}${text === undefined ? '' : ' with a text'}`;
    default:
      return `${after} a change`;
  }
}

const summarizeLevel = ({ skill, level }: Record<string, unknown>): string =>
  level === 0 ? `${String(skill)} dropped` : `relaxed to ${String(skill)} ≥ ${String(level)}`;

function summarizeEnrichment(detail: Record<string, unknown>): string {
  const fields = isObject(detail['fields']) ? Object.entries(detail['fields']) : [];
  const shown = fields.slice(0, MAX_SHOWN).map(([name, value]) => `${name} = ${JSON.stringify(value)}`);
  const rest = fields.length > shown.length ? ` and ${fields.length - shown.length} more` : '';
  const failures = Array.isArray(detail['failures']) ? (detail['failures'] as unknown[]) : [];
  const failed = failures.length === 0 ? [] : [`${count(failures.length, 'step')} failed: ${failures.join('; ')}.`];
  const steps = objectsIn(detail['steps']);
  const waits = summarizeWait(steps);
  // That nothing is known yet says nothing while the contact has still to answer.
  const none = waits === null ? ['Enrichment found nothing out.'] : [];
  return [
    ...(fields.length === 0 ? none : [`Enrichment set ${shown.join(', ')}${rest}.`]),
    ...(waits === null ? summarizeQuestions(steps) : [waits]),
    ...failed,
  ].join(' ');
}

/** Null where the record does not end with a question. */
function summarizeWait(steps: readonly Record<string, unknown>[]): string | null {
  const last = steps.at(-1);
  if (last?.['outcome'] !== 'asked') return null;
  const { position, reason } = last;
  const step = typeof position === 'number' ? ` (step ${position + 1})` : '';
  return typeof reason === 'string' ? `Asked the contact again${step}: ${reason}.` : `Asked the contact${step}.`;
}

/** The contact answered, or did not. What failed is told apart. */
function summarizeQuestions(steps: readonly Record<string, unknown>[]): string[] {
  const answered = steps.filter(({ outcome }) => outcome === 'answered').length;
  const givenUp = steps.filter(({ outcome }) => outcome === 'gave_up');
  return [
    ...(answered === 0 ? [] : [`The contact answered ${answered === 1 ? 'the question' : `${answered} questions`}.`]),
    ...givenUp.slice(0, MAX_SHOWN).map(({ position, reason }) => {
      const step = typeof position === 'number' ? `Step ${position + 1}` : 'A step';
      return `${step} gave up${typeof reason === 'string' ? `: ${reason}` : ''}.`;
    }),
  ];
}

const MAX_SHOWN = 10;

function count(number: number, thing: string): string {
  if (number === 1) return `1 ${thing}`;
  return `${number} ${thing}${thing.endsWith('ch') ? 'es' : 's'}`;
}

const upperFirst = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}`;

/** What people wrote may end like a sentence already. */
function endSentence(text: string): string {
  return /[!?…]$/.test(text) ? text : `${text}.`;
}

function listShown(parts: readonly string[]): string {
  const rest = parts.length > MAX_SHOWN ? ` and ${parts.length - MAX_SHOWN} more` : '';
  return `${parts.slice(0, MAX_SHOWN).join(', ')}${rest}`;
}

function objectsIn(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}
