import { parseArgs } from 'node:util';
import { connect, CommandFault } from './flow/flow-api.ts';
import { readFlowFile, readTries, type FlowFile, type FlowTry } from './flow/flow-file.ts';
import { publishFlowFile } from './flow/publishing.ts';
import { resolveTeams } from './flow/team-names.ts';
import { tryFlowFile } from './flow/trying.ts';
import { validateFlowFile } from './flow/validating.ts';

/*
 * `npm run -s flow -- validate|try|publish FILE...`: flows as files, so that they can live in a git repository and be checked and published by its
 * pipeline, over HTTP only. Exit code 0 where all is well; 1 where a file has faults or an expectation is not met; 2 where it could not be found out.
 */

const usage = `usage: npm run -s flow -- validate FILE...
       npm run -s flow -- try FILE... [--case FILE | --text TEXT [--answer TEXT]... [--channel KEY] [--at TIME]]
       npm run -s flow -- publish FILE...

Options: --url URL and --key-file FILE name the system and a key of scope admin (validate: agent will do);
else SWITCHYARD_URL and SWITCHYARD_KEY, else the system that \`npm start\` has started.`;

process.exitCode = await main();

async function main(): Promise<number> {
  try {
    const { command, files, options } = readCommand();
    const api = await connect(options);
    let isWell = true;
    for (const path of files) {
      const read = readFlowFile(path);
      const file = read.ok ? await resolveTeams(api, read.file) : read;
      if (file.ok) isWell = (await run(command, { path, file: file.file })) && isWell;
      else {
        isWell = false;
        for (const fault of file.faults) console.error(`${path}: ${fault}`);
      }
    }
    return isWell ? 0 : 1;

    async function run(name: Command, { path, file }: { path: string; file: FlowFile }): Promise<boolean> {
      switch (name) {
        case 'validate':
          return validateFlowFile(api, path, file);
        case 'try':
          return tryFlowFile(api, path, { ...file, tries: triesOf(options) ?? file.tries });
        case 'publish':
          return publishFlowFile(api, path, file);
      }
    }
  } catch (error) {
    console.error(error instanceof CommandFault ? error.message : describeError(error));
    return 2;
  }
}

/** In one line, as pipelines show them: 1 is for faults in a file, and the place in the code helps nobody who writes flows. */
function describeError(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  const [first = '', ...more] = text.split('\n').map((line) => line.trim());
  return [first, more.filter((line) => line !== '').join('; ')].join(' ').trim();
}

type Command = 'validate' | 'try' | 'publish';

function readCommand() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        url: { type: 'string' },
        'key-file': { type: 'string' },
        case: { type: 'string' },
        text: { type: 'string' },
        answer: { type: 'string', multiple: true },
        channel: { type: 'string' },
        at: { type: 'string' },
      },
    });
    const [command, ...files] = positionals;
    if (command !== 'validate' && command !== 'try' && command !== 'publish') throw new Error('No command is named.');
    if (files.length === 0) throw new Error('No file is named.');
    return { command, files, options: values } as const;
  } catch (error) {
    throw new CommandFault(`${(error as Error).message}\n${usage}`, { cause: error });
  }
}

type Options = ReturnType<typeof readCommand>['options'];

/** What the command line names to be tried instead of what the file does. */
function triesOf({ case: caseFile, text, answer: answers, channel, at }: Options): readonly FlowTry[] | null {
  if (caseFile !== undefined) {
    const read = readTries(caseFile);
    if (!read.ok) throw new CommandFault(read.faults.map((fault) => `${caseFile}: ${fault}`).join('\n'));
    return read.tries;
  }
  if (text === undefined) return null;
  return [
    {
      name: text,
      body: {
        message: { text },
        ...(answers !== undefined && { answers }),
        ...(channel !== undefined && { channel }),
        ...(at !== undefined && { at }),
      },
    },
  ];
}
