import { checkFlowFile } from './flow/checking.ts';
import { readCommandLine, readNamedTries, usage, type Command } from './flow/command-line.ts';
import { printFaults, printHints } from './flow/fault-lines.ts';
import { connect, CommandFault, type FlowApi } from './flow/flow-api.ts';
import type { FlowTry } from './flow/flow-file.ts';
import { publishFlowFile } from './flow/publishing.ts';
import { tryFlowFile } from './flow/trying.ts';

/*
 * `npm run -s flow -- validate|try|publish FILE...`: flows as files, so that they can live in a git repository and be checked and published by its
 * pipeline, over HTTP only. Exit code 0 where all is well; 1 where a file has faults or an expectation is not met, after all files were looked
 * at; 2 where it could not be found out.
 */

process.exitCode = await main();

async function main(): Promise<number> {
  try {
    const line = readCommandLine();
    if (line === 'help') {
      console.log(usage);
      return 0;
    }
    const { command, files, options } = line;
    const namedTries = readNamedTries(options);
    const api = await connect(options);
    let isWell = true;
    for (const path of files) isWell = (await runFile(path)) && isWell;
    return isWell ? 0 : 1;

    async function runFile(path: string): Promise<boolean> {
      try {
        return await runCommand(api, command, { path, namedTries, replaceDraft: options['replace-draft'] === true });
      } catch (error) {
        throw new CommandFault(`${path}: ${describeError(error)}`, { cause: error });
      }
    }
  } catch (error) {
    console.error(error instanceof CommandFault ? error.message : describeError(error));
    return 2;
  }
}

interface Run {
  readonly path: string;
  /** By the command line; null: what the file names is tried. */
  readonly namedTries: readonly FlowTry[] | null;
  readonly replaceDraft: boolean;
}

async function runCommand(api: FlowApi, command: Command, { path, namedTries, replaceDraft }: Run): Promise<boolean> {
  const checked = await checkFlowFile(api, path);
  if (!checked.ok) {
    printFaults(path, checked.faults);
    return false;
  }
  const { file } = checked;
  switch (command) {
    case 'validate':
      console.log(`${path}: valid`);
      printHints(
        path,
        file.hints.map(({ message }) => message),
      );
      return true;
    case 'try':
      return tryFlowFile(api, path, { ...file, tries: namedTries ?? file.tries });
    case 'publish':
      return publishFlowFile(api, path, { file, replaceDraft });
  }
}

/** In one line, as pipelines show them: 1 is for faults in a file, and the place in the code helps nobody who writes flows. */
function describeError(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  const [first = '', ...more] = text.split('\n').map((line) => line.trim());
  return [first, more.filter((line) => line !== '').join('; ')].join(' ').trim();
}
