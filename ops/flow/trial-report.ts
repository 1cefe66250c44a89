/** The path that a trial took, as lines for people. */

/** What `POST /v1/flows/try` answers, as far as it is told here. */
export interface Trial {
  readonly trigger: Explained & { readonly matched: boolean; readonly earlierFlow: string | null };
  readonly steps: readonly {
    readonly position: number;
    readonly kind: string;
    readonly outcome: string;
    readonly reason?: string;
    readonly when?: Explained;
    readonly fieldsSet: Readonly<Record<string, unknown>>;
    readonly asked?: Said;
    readonly sent?: string;
    readonly answer?: readonly string[];
  }[];
  readonly fields: Readonly<Record<string, unknown>>;
  readonly messages: readonly Said[];
  readonly route: {
    readonly kind: string;
    readonly reason?: string;
    readonly branch: string | null;
    readonly gaveUpStep: number | null;
    readonly teamId: string | null;
    readonly teamName: string | null;
    readonly priority: number | null;
    readonly slaSeconds: number | null;
    readonly share: number | null;
    readonly evaluated: readonly (Explained & { readonly name: string })[];
    readonly text: string | null;
    readonly webhookUrl: string | null;
  } | null;
  readonly assignment: {
    readonly outcome: string;
    readonly agentId: string | null;
    readonly agentName: string | null;
    readonly summary: string;
  } | null;
  readonly hints: readonly { readonly message: string }[];
}

interface Explained {
  readonly condition: string;
  readonly value: boolean;
  readonly values: Readonly<Record<string, unknown>>;
  readonly error?: string;
}

interface Said {
  readonly text: string;
  readonly choices?: readonly { readonly label: string }[];
}

export function describeTrial({ trigger, steps, route, assignment }: Trial): string[] {
  return [
    `trigger: ${describeCondition(trigger)}`,
    ...(trigger.matched ? [] : ['the flow does not run']),
    ...(trigger.earlierFlow === null
      ? []
      : [`the flow “${trigger.earlierFlow}”, which is asked before it, would run instead`]),
    ...steps.flatMap(describeStep),
    ...(route === null ? [] : describeRoute(route)),
    ...(assignment === null ? [] : [describeAssignment(assignment)]),
  ];
}

function describeStep(step: Trial['steps'][number]): string[] {
  const { position, kind, reason, when, fieldsSet, sent } = step;
  const at = `step ${position + 1} ${kind}`;
  const set = Object.entries(fieldsSet).map(([name, value]) => `${name} = ${JSON.stringify(value)}`);
  const more = [...set, ...(reason === undefined ? [] : [reason])].join('; ');
  return [
    ...(when === undefined ? [] : [`${at} when: ${describeCondition(when)}`]),
    `${at}: ${describeOutcome(step)}${more === '' ? '' : `: ${more}`}`,
    ...(sent === undefined ? [] : [`sends ${JSON.stringify(sent)}`]),
  ];
}

function describeOutcome({ outcome, asked, answer }: Trial['steps'][number]): string {
  const heard = answer?.map((text) => JSON.stringify(text)).join(', ');
  switch (outcome) {
    case 'asked':
      return `${heard === undefined ? 'asked' : `after ${heard} asked again`} ${asked === undefined ? '' : describeSaid(asked)}`;
    case 'answered':
      return `answered ${heard ?? ''}`;
    case 'gave_up':
      return `gave up${heard === undefined ? '' : ` after ${heard}`}`;
    default:
      return outcome;
  }
}

const describeSaid = ({ text, choices }: Said): string =>
  `${JSON.stringify(text)}${choices === undefined ? '' : ` [${choices.map(({ label }) => label).join(' | ')}]`}`;

function describeCondition({ condition, value, values, error }: Explained): string {
  const seen = Object.entries(values).map(([name, one]) => `${name} = ${JSON.stringify(one)}`);
  const told = [...seen, ...(error === undefined ? [] : [error])].join('; ');
  return `${condition} → ${value}${told === '' ? '' : ` (${told})`}`;
}

function describeRoute(route: NonNullable<Trial['route']>): string[] {
  const { kind, reason, branch, gaveUpStep, evaluated, text, webhookUrl } = route;
  const by =
    kind === 'default_team'
      ? `the default team, because ${reason ?? 'the flow failed'}`
      : gaveUpStep !== null
        ? `step ${gaveUpStep + 1} gave up`
        : branch === null
          ? 'otherwise'
          : `branch “${branch}”`;
  return [
    ...evaluated.map((one) => `branch “${one.name}”: ${describeCondition(one)}`),
    `${by} → ${describeDestination(route)}`,
    ...(text === null ? [] : [`sends ${JSON.stringify(text)}`]),
    ...(webhookUrl === null ? [] : [`tells ${webhookUrl}`]),
  ];
}

function describeDestination({
  kind,
  teamId,
  teamName,
  priority,
  slaSeconds,
  share,
}: NonNullable<Trial['route']>): string {
  if (kind === 'close') return 'closed';
  return [
    `team ${teamName ?? teamId}`,
    ...(share === null ? [] : [`share ${share}`]),
    ...(priority === null ? [] : [`priority ${priority}`]),
    ...(slaSeconds === null ? [] : [`wait aimed at ${slaSeconds} s`]),
  ].join(', ');
}

function describeAssignment({ outcome, agentId, agentName, summary }: NonNullable<Trial['assignment']>): string {
  const to = agentName === null ? '' : ` to ${agentName}`;
  return `${outcome}${to}${agentId === null ? '' : ` (${agentId})`}: ${summary}`;
}
