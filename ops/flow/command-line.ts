/** What the command line says: one of three commands, its files, and its options. */
import { parseArgs } from 'node:util';
import { linesOfFaults } from './fault-lines.ts';
import { CommandFault } from './flow-api.ts';
import { readTries, type FlowTry } from './flow-file.ts';

export const usage = `usage: npm run -s flow -- validate FILE...
       npm run -s flow -- try FILE... [--case FILE | --text TEXT [--answer TEXT]... [--channel KEY] [--at TIME] [--share N]]
       npm run -s flow -- publish FILE... [--replace-draft]

Options: --url URL and --key-file FILE name the system and a key of scope admin (validate: agent will do);
else SWITCHYARD_URL and SWITCHYARD_KEY, else the system that \`npm start\` has started.`;

/** @returns what to do; throws a CommandFault where that is not to be understood */
export function readCommandLine() {
  try {
    const { values: options, positionals } = parseOptions();
    if (options.help === true) return 'help';
    const [command, ...files] = positionals;
    if (command === undefined) throw new Error('No command is named.');
    if (!isCommand(command)) throw new Error(`${command} is no command.`);
    if (files.length === 0) throw new Error('No file is named.');
    const fault = findOptionFault(command, options);
    if (fault !== null) throw new Error(fault);
    return { command, files, options } as const;
  } catch (error) {
    throw new CommandFault(`${(error as Error).message}\n${usage}`, { cause: error });
  }
}

/** What the command line names to be tried instead of what the file does. */
export function readNamedTries({
  case: caseFile,
  text,
  answer,
  channel,
  at,
  share,
}: Options): readonly FlowTry[] | null {
  if (caseFile !== undefined) {
    const { tries, faults } = readTries(caseFile);
    if (faults.length > 0) throw new CommandFault(linesOfFaults(caseFile, faults).join('\n'));
    return tries;
  }
  if (text === undefined) return null;
  const body = {
    message: { text },
    ...(answer !== undefined && { answers: answer }),
    ...(channel !== undefined && { channel }),
    ...(at !== undefined && { at }),
    ...(share !== undefined && { share: Number(share) }),
  };
  return [{ name: text, body }];
}

const commands = ['validate', 'try', 'publish'] as const;
export type Command = (typeof commands)[number];

const isCommand = (word: string): word is Command => (commands as readonly string[]).includes(word);

/** What only one command takes. */
const optionsOf: Readonly<Record<Command, readonly (keyof Options)[]>> = {
  validate: [],
  try: ['case', 'text', 'answer', 'channel', 'at', 'share'],
  publish: ['replace-draft'],
};

/** They describe what --text says; a case says them itself. */
const besideText = ['answer', 'channel', 'at', 'share'] as const;

function parseOptions() {
  return parseArgs({
    allowPositionals: true,
    options: {
      help: { type: 'boolean', short: 'h' },
      url: { type: 'string' },
      'key-file': { type: 'string' },
      case: { type: 'string' },
      text: { type: 'string' },
      answer: { type: 'string', multiple: true },
      channel: { type: 'string' },
      at: { type: 'string' },
      share: { type: 'string' },
      'replace-draft': { type: 'boolean' },
    },
  });
}

type Options = ReturnType<typeof parseOptions>['values'];

/** An option that does nothing where it stands is a mistake: what was tried would not be what was meant. */
function findOptionFault(command: Command, options: Options): string | null {
  const strange = commands
    .filter((other) => other !== command)
    .flatMap((other) => optionsOf[other])
    .find((option) => options[option] !== undefined);
  if (strange !== undefined) return `--${strange} is no option of ${command}.`;
  if (options.case !== undefined && options.text !== undefined) return 'Give --case or --text, not both.';
  const alone = options.text === undefined ? besideText.find((option) => options[option] !== undefined) : undefined;
  if (alone !== undefined) return `--${alone} is for --text, which is not given.`;
  if (options.share !== undefined && !/^[0-9]{1,2}$/.test(options.share)) return '--share takes a number from 0 to 99.';
  return null;
}
