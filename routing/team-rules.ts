/** What a team may set about who gets its conversations. Everything but the strategy may be left at its default. */
export interface TeamSettings {
  /** For `priority_list`: these agents in this order, then the others by longer idle time, then by id. */
  readonly priorityList: readonly string[];
  /** Points that a waiting conversation's priority grows by in a minute; 0 to 100, fractions allowed. */
  readonly agingPointsPerMinute: number;
  /** Within how many seconds a conversation is to be assigned; null without a target. */
  readonly slaSeconds: number | null;
  /** Prefer the agent of the contact's last conversation if it closed within so many hours, waiting for them at most so long. */
  readonly affinity: { readonly withinHours: number; readonly waitSeconds: number } | null;
  /** Agents accept before a conversation is theirs; after `maxMissed` unanswered offers in a row an agent is set away. */
  readonly offer: { readonly acceptSeconds: number; readonly maxMissed: number } | null;
  /** What becomes of an agent's conversations when the agent goes offline; 0 seconds of grace is at once. */
  readonly offline: { readonly then: 'keep' } | { readonly then: 'return'; readonly graceSeconds: number };
  /** Back to the queue when a contact has had no reply from the agent for so long. */
  readonly silenceMinutes: number | null;
  /** Conversations without any message for so long take nothing of the capacity until the contact writes again. */
  readonly quietMinutes: number | null;
}

export const defaultTeamSettings: TeamSettings = {
  priorityList: [],
  agingPointsPerMinute: 0,
  slaSeconds: null,
  affinity: null,
  offer: null,
  offline: { then: 'keep' },
  silenceMinutes: null,
  quietMinutes: null,
};

/**
 * Who gets a conversation, among the agents who may take it and have room. Agents who meet more of the preferred skills come before others
 * in every strategy; equals by the strategy are told apart by the longer idle time, then by the smaller id.
 * - `round_robin`: the first agent with room after the last one, in the order of ids, beginning again at the end.
 * - `least_loaded`: whose load is the smallest part of the capacity.
 * - `longest_idle`: who has gone without a new conversation for longest, counted at most from coming online.
 * - `most_skilled`: whose levels in the skills that the conversation asks for sum up highest.
 * - `priority_list`: who stands first in the team's list.
 */
export type Strategy = (typeof strategies)[number];
export const strategies = ['round_robin', 'least_loaded', 'longest_idle', 'most_skilled', 'priority_list'] as const;

export interface TeamRules extends TeamSettings {
  readonly teamId: string;
  readonly strategy: Strategy;
  /** The agent whom the team's last assignment chose: the round-robin cursor. */
  readonly lastAgentId: string | null;
}
