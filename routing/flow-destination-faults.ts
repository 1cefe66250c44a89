import { templateFaults, type NameScope } from './flow-expression-faults.ts';
import { createFirstPlaces, isTeamId, teamFaults, type FlowFault } from './flow-faults.ts';
import { MAX_SPLIT_PARTS } from './flow-schema.ts';
import { isObject, itemsAt, valueAt } from './json-walk.ts';
import { addressFaults } from './web-address.ts';

const GOALS = ['teamId', 'split', 'close'] as const;

/** What has no meaning for a conversation that nobody gets. */
const OF_TEAMS = ['priority', 'slaSeconds', 'requirements', 'rings'] as const;

/** What a schema cannot tell about where a branch, or `otherwise`, sends a conversation; requirements and rings apart. */
export function destinationFaults(path: string, destination: unknown, scope: DestinationScope): FlowFault[] {
  if (!isObject(destination)) return [];
  return [
    ...goalFaults(path, destination),
    ...teamFaults(`${path}/teamId`, destination['teamId'], scope.teamIds),
    ...splitFaults(path, destination, scope.teamIds),
    ...templateFaults(`${path}/text`, destination['text'], scope),
    ...addressFaults(`${path}/webhookUrl`, destination['webhookUrl']),
  ];
}

export interface DestinationScope extends NameScope {
  readonly teamIds: ReadonlySet<string>;
}

function goalFaults(path: string, destination: Record<string, unknown>): FlowFault[] {
  const goals = GOALS.filter((goal) => Object.hasOwn(destination, goal));
  const mend = `Give one of ${GOALS.join(', ')}.`;
  if (goals.length === 0) return [{ path, message: 'leads nowhere', mend }];
  if (goals.length > 1) return [{ path, message: `leads to several places: ${goals.join(', ')}`, mend }];
  if (goals[0] !== 'close') return [];
  return OF_TEAMS.filter((member) => Object.hasOwn(destination, member)).map((member) => ({
    path: `${path}/${member}`,
    message: 'has no meaning where the conversation is closed',
    mend: 'Remove it, or give a team in place of close.',
  }));
}

function splitFaults(path: string, destination: unknown, teamIds: ReadonlySet<string>): FlowFault[] {
  const parts = itemsAt(destination, '/split', MAX_SPLIT_PARTS);
  const firstPlace = createFirstPlaces();
  const faults = parts.flatMap(([partPath, part]): FlowFault[] => {
    const teamId = valueAt(part, '/teamId');
    if (!isTeamId(teamId)) return [];
    const teamPath = `${path}${partPath}/teamId`;
    const first = firstPlace(teamId, teamPath);
    if (first === null) return teamFaults(teamPath, teamId, teamIds);
    return [{ path: teamPath, message: 'has a share already, at', at: first, mend: 'Give each team one share.' }];
  });
  const percents = parts.map(([, part]) => valueAt(part, '/percent'));
  const sum = percents.reduce<number>((total, percent) => total + (isPercent(percent) ? percent : NaN), 0);
  if (parts.length >= 2 && !Number.isNaN(sum) && sum !== 100 && isWholeSplit(destination)) {
    const mend = 'Give percentages that make 100 together.';
    faults.push({ path: `${path}/split`, message: `makes ${sum} % together`, mend });
  }
  return faults;
}

const isPercent = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= 99;

/** A list that is too long is refused for that; its sum is not looked at. */
function isWholeSplit(destination: unknown): boolean {
  const split = valueAt(destination, '/split');
  return Array.isArray(split) && split.length <= MAX_SPLIT_PARTS;
}
