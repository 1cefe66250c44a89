import { explainAssignment, type AssignmentExplanation } from '../routing/matching.ts';
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
  const by = typeof detail['byAgentId'] === 'string' ? `Agent ${detail['byAgentId']}` : 'A person';
  const note = typeof detail['note'] === 'string' && detail['note'] !== '' ? ` Note: ${detail['note']}` : '';
  if (typeof detail['chosen'] !== 'string') {
    const queue = typeof detail['teamId'] === 'string' ? `the queue of team ${detail['teamId']}` : 'a queue';
    return `${by} put the conversation into ${queue}.${note}`;
  }
  const forced = detail['forced'] === true ? ', over the capacity' : '';
  return `${by} assigned the conversation to agent ${detail['chosen']}${forced}.${note}`;
}

function isExplanation(detail: object): detail is AssignmentExplanation {
  return 'strategy' in detail && 'candidates' in detail && 'otherCounts' in detail;
}

function summarizeRouting(detail: Record<string, unknown>): string {
  const team = typeof detail['teamId'] === 'string' ? `team ${detail['teamId']}` : 'a team';
  if (typeof detail['reason'] === 'string') return `The default team got it, because ${detail['reason']}.`;
  const priority = typeof detail['priority'] === 'number' ? ` with priority ${detail['priority']}` : '';
  const evaluated = Array.isArray(detail['evaluated']) ? (detail['evaluated'] as unknown[]) : [];
  const failed = evaluated.filter((branch) => isObject(branch) && typeof branch['error'] === 'string').length;
  const failures = failed === 0 ? '' : ` ${count(failed, 'condition')} could not be evaluated and counted as false.`;
  if (typeof detail['branch'] === 'string') {
    return `The branch “${detail['branch']}” applied and chose ${team}${priority}.${failures}`;
  }
  const tried =
    evaluated.length === 0 ? 'The flow has no branch' : `None of ${count(evaluated.length, 'branch')} applied`;
  return `${tried}, so “otherwise” chose ${team}${priority}.${failures}`;
}

function summarizeEnrichment(detail: Record<string, unknown>): string {
  const fields = isObject(detail['fields']) ? Object.entries(detail['fields']) : [];
  const shown = fields.slice(0, MAX_SHOWN).map(([name, value]) => `${name} = ${JSON.stringify(value)}`);
  const rest = fields.length > shown.length ? ` and ${fields.length - shown.length} more` : '';
  const found = fields.length === 0 ? 'Enrichment found nothing out.' : `Enrichment set ${shown.join(', ')}${rest}.`;
  const failures = Array.isArray(detail['failures']) ? (detail['failures'] as unknown[]) : [];
  return failures.length === 0 ? found : `${found} ${count(failures.length, 'step')} failed: ${failures.join('; ')}.`;
}

const MAX_SHOWN = 10;

function count(number: number, thing: string): string {
  if (number === 1) return `1 ${thing}`;
  return `${number} ${thing}${thing.endsWith('ch') ? 'es' : 's'}`;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
