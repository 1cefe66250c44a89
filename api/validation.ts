import type { FastifyInstance, FastifyRequest, FastifyServerOptions, preValidationHookHandler } from 'fastify';
import { Value } from 'typebox/value';
import { faultKeywords, wordFault, wordNameFault, type FaultSchema, type SchemaFault } from '../routing/fault-words.ts';
import { problem, type FieldFault } from './problems.ts';
import { checkTexts, escapePointer, maskUnstorable } from './text-check.ts';

const MAX_FAULTS = 50;

/** What Ajv tells of a fault. */
export interface ValidationFault extends SchemaFault {
  readonly instancePath: string;
  /** With `verbose`: the schema that the keyword stands in. */
  readonly parentSchema?: FaultSchema;
  /** Set where the name of a member is at fault, not its value. */
  readonly propertyName?: string;
}

/**
 * Bodies mean what they say: nothing is coerced, nothing unknown is dropped, and all faults are told at once. `allErrors` is
 * safe because bodies are limited in size and schemas hold no pattern that can backtrack far.
 */
export const ajvOptions: NonNullable<FastifyServerOptions['ajv']> = {
  customOptions: {
    allErrors: true,
    allowUnionTypes: true,
    coerceTypes: false,
    keywords: faultKeywords,
    removeAdditional: false,
    useDefaults: true,
    verbose: true,
  },
};

/** Before a body is validated, it is searched for what cannot be stored; query parameters get their types. */
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
    const errors = findUnstorable(request.body, request.getValidationFunction('body'));
    done(errors.length === 0 ? undefined : problem('invalid_request', { errors }));
  });
}

/** Faults of a body that cannot be stored, with those that `validate` finds beside them; none where all of it can be. */
export function findUnstorable(body: unknown, validate: Validate | undefined, maxValues?: number): FieldFault[] {
  const { faults, isBounded } = checkTexts(body, maxValues);
  if (faults.length === 0 || !isBounded || validate === undefined) return faults;
  return [...faults, ...findSchemaFaults(body, validate)].slice(0, MAX_FAULTS);
}

export function findSchemaFaults(body: unknown, validate: Validate): FieldFault[] {
  return validate(body) ? [] : describeFaults((validate.errors ?? []) as ValidationFault[], 'pointer');
}

type Validate = NonNullable<ReturnType<FastifyRequest['getValidationFunction']>>;

/** @param form how a field is named: a JSON pointer into a body, or the bare name of a query parameter or header */
export function describeFaults(faults: readonly ValidationFault[], form: 'pointer' | 'name'): FieldFault[] {
  const described = new Map<string, FieldFault>();
  // A value that is none of a few words is wrong for that, whatever its type.
  const withAllowed = new Set(faults.filter(namesAllowed).map(({ instancePath }) => instancePath));
  for (const fault of faults) {
    if (MERE_SIGNS.has(fault.keyword) || (fault.keyword === 'type' && withAllowed.has(fault.instancePath))) continue;
    const pointer = fieldOf(fault);
    const field = form === 'pointer' ? pointer : pointer.slice(1);
    const word = fault.propertyName === undefined ? wordFault : wordNameFault;
    const entry: FieldFault = { field, ...word(fault, fault.parentSchema ?? {}, 'Send') };
    const key = `${field} ${entry.message}`;
    if (!described.has(key)) described.set(key, entry);
    if (described.size === MAX_FAULTS) break;
  }
  return [...described.values()];
}

/** They say only that one of the faults beside them was found. */
const MERE_SIGNS: ReadonlySet<string> = new Set(['propertyNames', 'anyOf', 'if']);

const namesAllowed = ({ keyword }: ValidationFault): boolean => keyword === 'enum' || keyword === 'const';

function fieldOf({ instancePath, params, propertyName }: ValidationFault): string {
  const name = params['missingProperty'] ?? params['additionalProperty'] ?? params['propertyName'] ?? propertyName;
  return maskUnstorable(typeof name === 'string' ? `${instancePath}/${escapePointer(name)}` : instancePath);
}

/** Where all members may be left out, so may the body, as `curl -X POST` does. */
export const acceptNoBody: preValidationHookHandler = (request, _reply, done) => {
  request.body ??= {};
  done();
};
