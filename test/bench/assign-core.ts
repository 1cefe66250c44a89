/**
 * The decisions alone, on the same people in memory.
 *
 * A small house lies in the processor's cache whole, a large one does not. The store never decides from there: what it asks the core about
 * has just come from the database. So it takes as many different small houses, one after the other, as have the large one's people.
 */
import { matchWaiting, type AgentCandidate, type MatchInput } from '../../routing/matching.ts';
import {
  asWaiting,
  createPopulation,
  houseNames,
  ofHouses,
  type HouseName,
  type Population,
  type PopulationSize,
} from './assign-population.ts';

/** Milliseconds a decision, round by round. */
export type CoreRounds = Readonly<Record<'whole' | 'single', Readonly<Record<HouseName, readonly number[]>>>>;

export function measureCore({ sizes, rounds, budgetMs, coreDecisions }: CoreOptions): CoreRounds {
  const houses = houseNames.map((name) => {
    const count = Math.max(1, Math.floor(sizes.large.waiting / sizes[name].waiting));
    const populations = Array.from({ length: count }, (_, seed) => createPopulation(sizes[name], seed + 1));
    return { name, runWhole: createWholeCalls(populations), runSingles: createSingleCalls(populations) };
  });
  const costs = { whole: ofHouses((): number[] => []), single: ofHouses((): number[] => []) };
  for (let round = 0; round <= rounds; round += 1) {
    for (const { name, runWhole, runSingles } of round % 2 === 0 ? houses : houses.toReversed()) {
      const whole = runWhole(budgetMs / 2);
      const single = runSingles(coreDecisions);
      // The first round compiles the code.
      if (round === 0) continue;
      costs.whole[name].push(costOf(whole));
      costs.single[name].push(costOf(single));
    }
  }
  return costs;
}

interface CoreOptions {
  readonly sizes: Readonly<Record<HouseName, PopulationSize>>;
  readonly rounds: number;
  readonly budgetMs: number;
  /** Single decisions in each round. */
  readonly coreDecisions: number;
}

interface CoreSample {
  readonly elapsedMs: number;
  readonly decisions: number;
}

const costOf = ({ elapsedMs, decisions }: CoreSample): number => elapsedMs / decisions;

/** A fixed moment, so that nothing depends on when it runs. */
const nowMs = 1_800_000_000_000;

/**
 * Each house in one call: everybody who waits, and every agent with room for one more. Whoever waits is a decision, those for whom there is
 * nobody left too.
 */
function createWholeCalls(houses: readonly Population[]): (budgetMs: number) => CoreSample {
  const inputs = houses.map(({ teams, agents, waiting }): MatchInput => {
    return { nowMs, teams, agents: agents.map(withRoom), waiting: waiting.map((one) => asWaiting(one, nowMs)) };
  });
  return (budgetMs) => {
    const startedAt = performance.now();
    let decisions = 0;
    let elapsedMs: number;
    do {
      for (const input of inputs) decisions += matchWaiting(input).length;
      elapsedMs = performance.now() - startedAt;
    } while (elapsedMs < budgetMs);
    return { elapsedMs, decisions };
  };
}

/** One who waits and the agents of one team, of whom one has room: what the store asks when a conversation ends. */
function createSingleCalls(houses: readonly Population[]): (count: number) => CoreSample {
  const inputs = houses.flatMap(inputsByTeam);
  let turn = 0;
  return (count) => {
    const startedAt = performance.now();
    for (let decided = 0; decided < count; decided += 1, turn += 1) {
      const input = inputs[turn % inputs.length]!;
      const one = input.waiting[Math.floor(turn / inputs.length) % input.waiting.length]!;
      matchWaiting({ ...input, waiting: [one] });
    }
    return { elapsedMs: performance.now() - startedAt, decisions: count };
  };
}

function inputsByTeam({ teams, agents, waiting }: Population): MatchInput[] {
  return teams.map((team, index) => {
    const members = agents.filter((agent) => agent.teamIds.includes(team.teamId));
    const freed = index % members.length;
    return {
      nowMs,
      teams: [team],
      agents: members.map((agent, place) => (place === freed ? withRoom(agent) : agent)),
      waiting: waiting.filter(({ teamId }) => teamId === team.teamId).map((one) => asWaiting(one, nowMs)),
    };
  });
}

/** Room for one conversation on whatever channel the agent works. */
function withRoom(agent: AgentCandidate): AgentCandidate {
  const [channel, count] = Object.entries(agent.channelLoads)[0]!;
  const units = agent.load / Object.values(agent.channelLoads).reduce((sum, load) => sum + load);
  return { ...agent, load: agent.load - units, channelLoads: { ...agent.channelLoads, [channel]: count - 1 } };
}
