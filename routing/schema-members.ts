/** Members that several parts of a flow's document have. */
import { Type } from 'typebox';
import { MAX_FIELD_CHARS, MAX_MESSAGE_TEXT_CHARS } from './facts.ts';
import { MAX_CONDITION_CHARS, TEXT_FORMS } from './text-forms.ts';

export const FieldName = Type.String({ ...TEXT_FORMS.fieldName });

export const FieldValueSchema = Type.Union(
  [Type.String({ maxLength: MAX_FIELD_CHARS }), Type.Number(), Type.Boolean()],
  {
    fault: 'is no field value',
    mend: `Give a text of at most ${MAX_FIELD_CHARS} characters, a number, true or false.`,
  },
);

export const Priority = Type.Integer({ minimum: 0, maximum: 100, description: 'Higher is served first' });

export const TeamId = Type.String({ ...TEXT_FORMS.teamId });

export const Close = Type.Literal(true, {
  description: 'The conversation is closed',
  mend: 'Give true, or leave it out.',
});

export const Condition = (scope: string) =>
  Type.String({
    minLength: 1,
    maxLength: MAX_CONDITION_CHARS,
    description: `CEL over ${scope}; one that fails counts as false`,
  });

/** With `{{fields.purpose}}` and the like; see template.ts. */
export const MessageText = Type.String({
  minLength: 1,
  maxLength: MAX_MESSAGE_TEXT_CHARS,
  ...TEXT_FORMS.notBlank,
  description: 'To the contact; may hold {{contact.name}} and the like',
});
