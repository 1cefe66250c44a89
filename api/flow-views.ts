/** What the API shows of flows: the schema of the answer and the function that makes it, side by side. */
import { Type, type Static } from '@fastify/type-provider-typebox';
import type { FlowFault } from '../routing/flow-document.ts';
import type { FlowRow, FlowVersionRow, InvalidFlow, NoFlow } from '../store/flows.ts';
import { problem, type FieldFault, type Problem } from './problems.ts';
import { Id, Nullable, NullableId, Timestamp } from './schemas.ts';
import { isoOrNull, NullableTimestamp } from './views.ts';

const DocumentView = (description: string) =>
  Type.Unsafe<object>({ type: 'object', additionalProperties: true, description });

export const FlowView = Type.Object({
  id: Id,
  name: Type.String(),
  description: Type.String(),
  document: DocumentView('The draft'),
  position: Nullable(
    Type.Integer({
      description: 'Its place in the order in which flows are asked, from 1, drafts included; null once it is archived',
    }),
  ),
  publishedVersionId: NullableId,
  publishedNumber: Nullable(Type.Integer({ description: 'Of the version that is live; null: it runs for nobody' })),
  archivedAt: NullableTimestamp,
  createdAt: Timestamp,
  updatedAt: Timestamp,
});

export function viewFlow(row: FlowRow): Static<typeof FlowView> {
  const { id, name, description, document, position, publishedVersionId, publishedNumber } = row;
  return {
    id,
    name,
    description,
    document,
    position,
    publishedVersionId,
    publishedNumber,
    archivedAt: isoOrNull(row.archivedAt),
    createdAt: row.createdAt.toISOString(),
    updatedAt: row.updatedAt.toISOString(),
  };
}

const versionMembers = {
  id: Id,
  flowId: Id,
  number: Type.Integer(),
  document: DocumentView('Never changes'),
  publishedAt: Timestamp,
};

export const FlowVersionView = Type.Object(versionMembers);

export function viewFlowVersion(row: FlowVersionRow): Static<typeof FlowVersionView> {
  const { id, flowId, number, document } = row;
  return { id, flowId, number, document, publishedAt: row.publishedAt.toISOString() };
}

/** The version that is live now, and what is worth knowing about that. */
export const LiveVersionView = Type.Object({
  ...versionMembers,
  hints: Type.Array(Type.Object({ message: Type.String() }), {
    description: 'No faults, but hardly meant: another flow that takes all of it, a team without agents',
  }),
});

export function viewLiveVersion(row: FlowVersionRow, hints: readonly string[]): Static<typeof LiveVersionView> {
  return { ...viewFlowVersion(row), hints: hints.map((message) => ({ message })) };
}

export function invalidFlow({ faults }: InvalidFlow): Problem {
  return problem('invalid_flow', {
    detail: `The flow has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}; nothing was changed.`,
    errors: faults.map((fault) => ({ field: `/document${fault.path}`, message: wordOf(fault), mend: fault.mend })),
  });
}

/** The same faults where they are the answer and no error. */
export const DocumentFaultView = Type.Object({
  path: Type.String({ description: 'JSON pointer into the body' }),
  message: Type.String(),
  mend: Type.String({ description: 'What to do about it' }),
});

export function viewDocumentFault(fault: FlowFault): Static<typeof DocumentFaultView> {
  return { path: `/document${fault.path}`, message: wordOf(fault), mend: fault.mend };
}

const wordOf = ({ message, at }: FlowFault): string => (at === undefined ? message : `${message} /document${at}`);

export const unknownVersion = (field: string, mend = 'Send the number of a version of this flow.'): Problem => {
  const fault: FieldFault = { field, message: 'names no version of this flow', mend };
  return problem('unknown_reference', { errors: [fault] });
};

export function noFlowProblem({ kind }: NoFlow): Problem {
  return kind === 'not_found'
    ? problem('not_found')
    : problem('conflict.archived', { detail: 'The flow is archived. Restore it first.' });
}
