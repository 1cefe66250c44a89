import { Type, type TSchema } from 'typebox';
import type { TLocalizedValidationError } from 'typebox/error';
import { Settings } from 'typebox/system';
import { Errors } from 'typebox/value';
import { wordFault, type FaultSchema, type SchemaFault } from './fault-words.ts';
import { escapePointer, type FlowFault } from './flow-faults.ts';
import { FlowDocument, MAX_STEPS } from './flow-schema.ts';
import { kindOfStep } from './flow-step-faults.ts';
import { itemsAt } from './json-walk.ts';
import { STEP_SCHEMAS } from './step-schemas.ts';

/** What the document's schema refuses. */
export function shapeFaults(document: unknown, maxFaults: number): FlowFault[] {
  return withErrors(maxFaults, () => {
    const faults = faultsAt('', document, Frame);
    for (const [path, step] of itemsAt(document, '/enrichment', MAX_STEPS)) {
      const kind = kindOfStep(step);
      if (kind !== null) faults.push(...faultsAt(path, step, STEP_SCHEMAS[kind]));
      else {
        faults.push({
          path: `${path}/kind`,
          message: 'is no known kind of step',
          mend: `Give one of ${Object.keys(STEP_SCHEMAS).join(', ')}.`,
        });
      }
    }
    return faults;
  });
}

/** The steps are checked by the schema of their kind: a union would report what each of its other members misses. */
const Frame = Type.Object(
  { ...FlowDocument.properties, enrichment: Type.Array(Type.Unknown(), { maxItems: MAX_STEPS }) },
  { additionalProperties: false },
);

/** TypeBox stops at eight errors unless told otherwise, by a setting of the whole process. */
function withErrors<Result>(most: number, collect: () => Result): Result {
  const { maxErrors } = Settings.Get();
  Settings.Set({ maxErrors: most });
  try {
    return collect();
  } finally {
    Settings.Set({ maxErrors });
  }
}

/** Of a value that fits no member of a union, what each member misses is passed over; of one that is none of a few, its type. */
function faultsAt(path: string, value: unknown, schema: TSchema): FlowFault[] {
  const errors = Errors(schema, value);
  const unions = errors.filter((error) => error.keyword === 'anyOf');
  const allowed = new Set(
    errors.filter(({ keyword }) => keyword === 'const' || keyword === 'enum').map(({ instancePath }) => instancePath),
  );
  return errors
    .filter((error) => !unions.some((union) => union !== error && isMemberOf(error, union)))
    .filter((error) => error.keyword !== 'type' || !allowed.has(error.instancePath))
    .flatMap((error) => faultsOfError(error, schemaAt(schema, error.schemaPath), path + error.instancePath));
}

function isMemberOf(error: TLocalizedValidationError, union: TLocalizedValidationError): boolean {
  return error.instancePath === union.instancePath && error.schemaPath.startsWith(`${union.schemaPath}/anyOf/`);
}

/** @param path such as `#/properties/url`: a JSON pointer from the root of the schema */
function schemaAt(schema: TSchema, path: string): FaultSchema {
  return path
    .split('/')
    .slice(1)
    .map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'))
    .reduce<object>((owner, name) => (owner as Record<string, object>)[name]!, schema);
}

function faultsOfError(error: TLocalizedValidationError, schema: FaultSchema, path: string): FlowFault[] {
  switch (error.keyword) {
    case 'required':
      return error.params.requiredProperties.map((missingProperty) =>
        faultOf(`${path}/${missingProperty}`, { ...error, params: { missingProperty } }, schema),
      );
    case 'additionalProperties':
      return error.params.additionalProperties.map((name) => faultOf(`${path}/${escapePointer(name)}`, error, schema));
    case 'boolean':
      // Comes beside `additionalProperties`, once for each property.
      return [];
    default:
      return [faultOf(path, error, schema)];
  }
}

function faultOf(path: string, fault: SchemaFault, schema: FaultSchema): FlowFault {
  return { path, ...wordFault(fault, schema, 'Give') };
}
