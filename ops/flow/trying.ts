import { isDeepStrictEqual } from 'node:util';
import { placeOf } from './checking.ts';
import { describeFault, printFaults, printHints, type FieldFault } from './fault-lines.ts';
import type { FlowApi } from './flow-api.ts';
import type { Expectation, FlowFile } from './flow-file.ts';
import { describeTrial, type Trial } from './trial-report.ts';

/** Tries all that the file names, and prints each path. @returns whether everything came out as expected */
export async function tryFlowFile(api: FlowApi, path: string, file: FlowFile): Promise<boolean> {
  if (file.tries.length === 0) {
    console.error(`${path}: /tries: there is nothing to try. Add tries to the file, or give --text or --case.`);
    return false;
  }
  let isWell = true;
  const hints = new Set<string>();
  for (const { name, body, expect, path: place = '' } of file.tries) {
    const sent = { ...body, document: file.document, name: file.name };
    const tried = await api.submit<Trial>('POST', '/v1/flows/try', sent);
    if (!tried.ok) {
      isWell = false;
      printFaults(
        path,
        tried.faults.map((fault) => describeRefusal(fault, place, file)),
      );
      continue;
    }
    const answer = tried.body;
    console.log(`${path}: ${name}`);
    for (const line of describeTrial(answer)) console.log(`  ${line}`);
    const misses = expect === undefined ? [] : findMisses(answer, expect);
    for (const { member, found, expected } of misses) {
      isWell = false;
      console.error(`${path}: ${place}/expect/${member}: is ${tell(found)}. Expected was ${tell(expected)}.`);
    }
    if (expect !== undefined && misses.length === 0) console.log('  as expected');
    for (const { message } of answer.hints) hints.add(message);
  }
  printHints(path, hints);
  return isWell;
}

/** A try's own members stand where the try does; the document and the name, which it is sent with, in the file. */
function describeRefusal({ field, ...fault }: FieldFault, place: string, file: FlowFile): string {
  const isOfFile = /^[/](document|name)([/]|$)/.test(field);
  return describeFault({ ...fault, field: isOfFile ? placeOf(field, file) : `${place}${field}` || '/' });
}

interface Miss {
  readonly member: string;
  readonly found: unknown;
  readonly expected: unknown;
}

function findMisses({ trigger, route, assignment, fields }: Trial, expect: Expectation): Miss[] {
  const found: Readonly<Record<string, unknown>> = {
    matched: trigger.matched && trigger.earlierFlow === null,
    kind: route?.kind ?? null,
    branch: route?.branch ?? null,
    team: route?.teamName ?? null,
    teamId: route?.teamId ?? null,
    agentId: assignment?.agentId ?? null,
  };
  const { fields: expectedFields = {}, ...expected } = expect;
  return [
    ...Object.entries(expected).map(([member, value]) => ({ member, found: found[member], expected: value })),
    ...Object.entries(expectedFields).map(([name, value]) => ({
      member: `fields/${name}`,
      found: fields[name] ?? null,
      expected: value,
    })),
  ].filter((one) => !isDeepStrictEqual(one.found, one.expected));
}

const tell = (value: unknown): string => JSON.stringify(value) ?? 'nothing';
