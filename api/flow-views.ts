/** What the API shows of flows: the schema of the answer and the function that makes it, side by side. */
import { Type, type Static } from '@fastify/type-provider-typebox';
import type { FlowFault } from '../routing/flow-faults.ts';
import { withoutQuery } from '../routing/web-address.ts';
import type { FlowRow, FlowVersionRow, InvalidFlow, NoFlow } from '../store/flows.ts';
import { problem, type FieldFault, type Problem } from './problems.ts';
import type { Scope } from './principal.ts';
import { Id, Nullable, NullableId, Timestamp } from './schemas.ts';
import { isoOrNull, NullableTimestamp } from './views.ts';

const DocumentView = (description: string) =>
  Type.Unsafe<object>({
    type: 'object',
    additionalProperties: true,
    description: `${description}. Keys that are not admin see its addresses (\`url\`, \`webhookUrl\`) without their query, in which there are often secrets`,
  });

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

/** For admins; others get what `viewFlowFor` shows. */
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

export function viewFlowFor(scope: Scope): typeof viewFlow {
  return (row) => viewFlow({ ...row, document: viewDocument(row.document, scope) });
}

const versionMembers = {
  id: Id,
  flowId: Id,
  number: Type.Integer(),
  document: DocumentView('Never changes'),
  publishedAt: Timestamp,
};

export const FlowVersionView = Type.Object(versionMembers);

/** For admins; others get what `viewFlowVersionFor` shows. */
function viewFlowVersion(row: FlowVersionRow): Static<typeof FlowVersionView> {
  const { id, flowId, number, document } = row;
  return { id, flowId, number, document, publishedAt: row.publishedAt.toISOString() };
}

export const HintView = Type.Object({ message: Type.String() });

export const viewHint = (message: string): Static<typeof HintView> => ({ message });

export function viewFlowVersionFor(scope: Scope): typeof viewFlowVersion {
  return (row) => viewFlowVersion({ ...row, document: viewDocument(row.document, scope) });
}

/** The version that is live now, and what is worth knowing about that. */
export const LiveVersionView = Type.Object({
  ...versionMembers,
  hints: Type.Array(HintView, {
    description:
      'No faults, but hardly meant: another flow that takes all of it, a team without agents, a text that a field can never be, a question where ' +
      'nothing goes out',
  }),
});

export function viewLiveVersion(row: FlowVersionRow, hints: readonly string[]): Static<typeof LiveVersionView> {
  return { ...viewFlowVersion(row), hints: hints.map(viewHint) };
}

/** As the holder of such a key may see it. */
export function viewDocument<Document extends object>(document: Document, scope: Scope): Document {
  return scope === 'admin' ? document : (withoutQueries(document, '') as Document);
}

function withoutQueries(part: unknown, name: string): unknown {
  if (typeof part === 'string') return name === 'url' || name === 'webhookUrl' ? withoutQuery(part) : part;
  if (Array.isArray(part)) return part.map((item) => withoutQueries(item, ''));
  if (typeof part !== 'object' || part === null) return part;
  return Object.fromEntries(Object.entries(part).map(([key, member]) => [key, withoutQueries(member, key)]));
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
