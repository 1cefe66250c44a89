import type { FastifyInstance, FastifyServerOptions } from 'fastify';
import { Value } from 'typebox/value';
import { problem, type FieldFault } from './problems.ts';
import { escapePointer, findTextFaults } from './text-check.ts';

const MAX_FAULTS = 50;

/**
 * Bodies mean what they say: nothing is coerced, nothing unknown is dropped, and all faults are told at once. `allErrors` is
 * safe because bodies are limited in size and schemas hold no pattern that can backtrack far.
 */
export const ajvOptions: NonNullable<FastifyServerOptions['ajv']> = {
  customOptions: {
    allErrors: true,
    allowUnionTypes: true,
    coerceTypes: false,
    removeAdditional: false,
    useDefaults: true,
    verbose: true,
  },
};

/** What Ajv tells of a fault, as far as it is used here. */
export interface ValidationFault {
  keyword: string;
  instancePath: string;
  message?: string;
  params: Record<string, unknown>;
  /** With `verbose`. */
  parentSchema?: { description?: string };
  propertyName?: string;
}

/** Before a body is validated, it is searched for text that cannot be stored; query parameters get their types. */
export function prepareValidation(app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    const schema = route.schema?.querystring as Parameters<typeof Value.Convert>[0] | undefined;
    if (schema === undefined) return;
    const before = route.preValidation ?? [];
    route.preValidation = [
      ...(Array.isArray(before) ? before : [before]),
      (request, _reply, done) => {
        request.query = Value.Convert(schema, request.query);
        done();
      },
    ];
  });
  app.addHook('preValidation', (request, _reply, done) => {
    if (typeof request.body !== 'object' || request.routeOptions.config.checksTextItself === true) return done();
    const errors = findTextFaults(request.body);
    done(errors.length === 0 ? undefined : problem('invalid_request', { errors }));
  });
}

/** @param form how a field is named: a JSON pointer into a body, or the bare name of a query parameter or header */
export function describeFaults(faults: readonly ValidationFault[], form: 'pointer' | 'name'): FieldFault[] {
  const described = new Map<string, FieldFault>();
  for (const fault of faults) {
    // Says only that one of the faults beside it was found.
    if (fault.keyword === 'propertyNames' || fault.keyword === 'anyOf') continue;
    const pointer = fieldOf(fault);
    const field = form === 'pointer' ? pointer : pointer.slice(1);
    const entry: FieldFault = { field, ...wordFault(fault) };
    const key = `${field} ${entry.message}`;
    if (!described.has(key)) described.set(key, entry);
    if (described.size === MAX_FAULTS) break;
  }
  return [...described.values()];
}

function fieldOf({ instancePath, params, propertyName }: ValidationFault): string {
  const name = params['missingProperty'] ?? params['additionalProperty'] ?? params['propertyName'] ?? propertyName;
  return typeof name === 'string' ? `${instancePath}/${escapePointer(name)}` : instancePath;
}

function wordFault({ keyword, message, params, parentSchema }: ValidationFault): Omit<FieldFault, 'field'> {
  switch (keyword) {
    case 'required':
      return { message: 'is required' };
    case 'additionalProperties':
      return { message: 'is not known here', mend: 'Remove it, or check its spelling.' };
    case 'enum':
      return { message: 'is not one of the allowed values', mend: `Send ${listValues(params['allowedValues'])}.` };
    case 'pattern':
    case 'format': {
      const description = parentSchema?.description;
      return { message: 'has the wrong form', ...(description === undefined ? {} : { mend: `Send: ${description}.` }) };
    }
    default:
      return { message: message ?? 'is not valid' };
  }
}

function listValues(values: unknown): string {
  return Array.isArray(values) ? values.map((value) => JSON.stringify(value)).join(' or ') : 'another value';
}
