import { hoursFaults } from './business-hours.ts';
import { destinationFaults } from './flow-destination-faults.ts';
import { conditionFaults, type StepScope } from './flow-expression-faults.ts';
import { createFirstPlaces, escapePointer, isStorable, unstorableFault, type FlowFault } from './flow-faults.ts';
import { MAX_BODY_DEPTH } from './flow-http-faults.ts';
import { createRequirementsCheck, type KnownNames } from './flow-requirement-faults.ts';
import { MAX_BRANCHES, MAX_LIST_ITEMS, type FlowDocument } from './flow-schema.ts';
import { shapeFaults } from './flow-shape-faults.ts';
import { checkSteps } from './flow-step-faults.ts';
import { MAX_HOLIDAYS } from './hours-schema.ts';
import { isObject, itemsAt, valueAt } from './json-walk.ts';
import { isNetworkStep } from './step-schemas.ts';
import { isHistorySource } from './text-forms.ts';

export const DEFAULT_TRIGGER: FlowDocument['trigger'] = {
  on: 'conversation.opened',
  condition: "conversation.source == 'contact'",
};

export type FlowValidation =
  { readonly ok: true; readonly flow: FlowDocument } | { readonly ok: false; readonly faults: readonly FlowFault[] };

/**
 * Checks a document that somebody wrote and finds every fault at once: shape and limits, conditions and templates with the names in them, steps, hours,
 * teams, requirements. A trigger or enrichment left out gets its default, which the returned flow contains.
 */
export function validateFlow(document: unknown, known: KnownNames): FlowValidation {
  const complete = withDefaults(document);
  const faults = [...shapeFaults(withoutTails(complete, 0), MAX_FAULTS), ...contentFaults(complete, known)];
  if (faults.length > 0) return { ok: false, faults: faults.slice(0, MAX_FAULTS) };
  return { ok: true, flow: complete as FlowDocument };
}

/** Whether enriching calls other systems, which needs a regular activity with time limits and retries. */
export function usesNetwork(flow: FlowDocument): boolean {
  return flow.enrichment.some(isNetworkStep);
}

/** Whether the flow may wait for what the contact answers. */
export function asksContact(flow: FlowDocument): boolean {
  return flow.enrichment.some(({ kind }) => kind === 'ask');
}

/** Whether a step reads what earlier conversations of the contact came to, which has to be looked up. */
export function needsHistory(flow: FlowDocument): boolean {
  return flow.enrichment.some((step) => step.kind === 'contact' && Object.values(step.fields).some(isHistorySource));
}

const MAX_FAULTS = 1000;
/** How deep the objects and lists of a valid document lie: those of a request's body lie deepest. */
const MAX_DEPTH = 3 + MAX_BODY_DEPTH;

function withDefaults(document: unknown): unknown {
  if (!isObject(document)) return document;
  const { trigger = {}, enrichment = [], ...rest } = document;
  return { trigger: isObject(trigger) ? { ...DEFAULT_TRIGGER, ...trigger } : trigger, enrichment, ...rest };
}

/**
 * No list of a flow may have more than `MAX_LIST_ITEMS` entries, but for the holidays of some hours. One that has is refused for that, and those that
 * come after are not looked at: their faults would take the place of others.
 */
function withoutTails(value: unknown, depth: number, maxItems = MAX_LIST_ITEMS): unknown {
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return value;
  if (Array.isArray(value)) return value.slice(0, maxItems + 1).map((item) => withoutTails(item, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [
      key,
      withoutTails(member, depth + 1, key === 'holidays' ? MAX_HOLIDAYS : MAX_LIST_ITEMS),
    ]),
  );
}

/** What a schema cannot tell. Values of the wrong shape are passed over: their fault is known. */
function contentFaults(document: unknown, { teamIds, skills }: KnownNames): FlowFault[] {
  const written = valueAt(document, '/hours');
  const hours = new Set(isObject(written) ? Object.keys(written) : []);
  const steps = checkSteps(document, { teamIds, hours });
  const fields = steps.fields === undefined ? {} : { fields: steps.fields };
  const checkRequirements = createRequirementsCheck({ teamIds, skills, ...fields });
  const destination = (path: string, value: unknown): FlowFault[] => [
    ...destinationFaults(path, value, { teamIds, ...fields }),
    ...checkRequirements(path, value),
  ];
  return [
    ...conditionFaults('/trigger/condition', valueAt(document, '/trigger/condition'), { for: 'trigger', hours }),
    ...(isObject(written)
      ? Object.entries(written).flatMap(([name, one]) => hoursFaults(placeOfHours(name), one))
      : []),
    ...steps.faults,
    ...nameFaults(document),
    ...itemsAt(document, '/routing/branches', MAX_BRANCHES).flatMap(([path, branch]) => [
      ...branchConditionFaults(path, branch, { hours, ...fields }),
      ...destination(path, branch),
    ]),
    ...destination('/routing/otherwise', valueAt(document, '/routing/otherwise')),
    ...unstorableTextFaults('', document, 0),
  ];
}

const placeOfHours = (name: string): string => `/hours/${escapePointer(name)}`;

/** The load that a condition may speak of is that of the branch's own team; a split has none of its own. */
function branchConditionFaults(path: string, branch: unknown, scope: Omit<StepScope, 'teamIds'>): FlowFault[] {
  const team = valueAt(branch, '/teamId') !== undefined;
  return conditionFaults(`${path}/when`, valueAt(branch, '/when'), { for: 'branch', ...scope, team });
}

function nameFaults(document: unknown): FlowFault[] {
  const firstPlace = createFirstPlaces();
  return itemsAt(document, '/routing/branches', MAX_BRANCHES).flatMap(([path, branch]): FlowFault[] => {
    const name = valueAt(branch, '/name');
    if (typeof name !== 'string') return [];
    const first = firstPlace(name.trim().toLowerCase(), path);
    if (first === null) return [];
    const message = 'is also the name of the branch at';
    return [{ path: `${path}/name`, message, at: first, mend: 'Give every branch a name of its own.' }];
  });
}

function unstorableTextFaults(path: string, value: unknown, depth: number): FlowFault[] {
  if (typeof value === 'string') return isStorable(value) ? [] : [unstorableFault(path)];
  if (typeof value !== 'object' || value === null || depth > MAX_DEPTH) return [];
  return Object.entries(value)
    .slice(0, MAX_FAULTS)
    .flatMap(([key, member]) => unstorableTextFaults(`${path}/${escapePointer(key)}`, member, depth + 1));
}
