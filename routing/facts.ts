import type { Source } from './conversation.ts';

/** What conditions may look at: one conversation with its contact, as it is when the flow decides. */
export interface RoutingFacts {
  readonly conversation: { readonly source: Source; readonly priority: number };
  readonly contact: {
    readonly id: string;
    readonly name: string | null;
    /** JSON as the business sent it. */
    readonly attributes: Readonly<Record<string, unknown>>;
  };
  readonly channel: { readonly key: string; readonly name: string };
  /** See `joinMessageText`. */
  readonly message: { readonly text: string };
  readonly fields: Fields;
  /** The time of the decision, by the clock of PostgreSQL: business hours go by it. */
  readonly nowMs: number;
  /** Read only for a flow with a step that tells it. */
  readonly history?: ContactHistory;
}

/** The contact's earlier conversations, that which the flow decides about not counted. */
export interface ContactHistory {
  readonly conversationCount: number;
  /** Of the last one that had an agent, and of the last that was closed with a category. */
  readonly lastAgentId: string | null;
  readonly lastCategory: string | null;
}

/** How busy a team is, for conditions of branches. */
export interface TeamLoad {
  readonly waiting: number;
  readonly onlineAgents: number;
  /** 0 where nobody waits. */
  readonly longestWaitSeconds: number;
}

/** What the enrichment found out, by field name. */
export type Fields = Readonly<Record<string, FieldValue>>;

export type FieldValue = string | number | boolean;

/** Of a field's text. */
export const MAX_FIELD_CHARS = 1000;

export const MAX_MESSAGE_TEXT_CHARS = 4096;
/** So many of the first messages are looked at. */
export const MAX_FIRST_MESSAGES = 10;

/** The texts of the first messages, one a line, cut to the length that conditions and keywords see. */
export function joinMessageText(texts: readonly (string | null)[]): string {
  return cutText(texts.filter((text) => text !== null && text !== '').join('\n'), MAX_MESSAGE_TEXT_CHARS);
}

/** Cuts to `maxChars` UTF-16 units without leaving half a character at the end. */
export function cutText(text: string, maxChars: number): string {
  if (text.length <= maxChars) return text;
  const last = text.charCodeAt(maxChars - 1);
  const splitsPair = last >= 0xd800 && last <= 0xdbff;
  return text.slice(0, splitsPair ? maxChars - 1 : maxChars);
}
