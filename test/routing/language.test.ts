import { describe, expect, it } from 'vitest';
import { detectLanguage, findLanguageFields } from '../../routing/language.ts';

describe('the language of short messages', () => {
  it.each([
    ['en', 'Where is my parcel?'],
    ['de', 'Ich möchte kündigen'],
    ['fr', 'Je veux être remboursé'],
    ['es', 'hola, necesito ayuda'],
    ['it', 'Vorrei un rimborso'],
    ['pt', 'não consigo entrar na minha conta'],
    ['nl', 'kunt u mij helpen'],
    ['pl', 'dzień dobry, mam pytanie'],
    ['ar', 'أريد استرداد أموالي'],
    ['he', 'איפה החבילה שלי'],
    ['zh', '我要退款'],
    ['ja', '返金してください'],
    ['ko', '제 택배는 어디 있나요?'],
    ['th', 'พัสดุของฉันอยู่ที่ไหน'],
    ['el', 'Πού είναι το δέμα μου;'],
  ])('%s: %s', (language, text) => {
    const detected = detectLanguage(text);
    expect(detected?.language).toBe(language);
    expect(detected?.confidence).toBeGreaterThan(0.7);
  });

  it('is unsure between near relatives', () => {
    expect(detectLanguage('Хочу вернуть деньги')?.confidence).toBeLessThan(0.7);
  });

  it.each(['', '   ', '👍', '12345', '???', 'ann@example.com', 'https://shop.example/a?b', '\0', '\ud800'])(
    'finds none in %j',
    (text) => {
      expect(detectLanguage(text)).toBeNull();
    },
  );

  it('goes by the words around an address', () => {
    expect(detectLanguage('Bitte schreiben Sie mir an the.english.house@where-is-my-parcel.example')?.language).toBe(
      'de',
    );
  });

  it('takes the longest text that a message can have', () => {
    expect(detectLanguage('where is my parcel '.repeat(250))).toMatchObject({ language: 'en' });
    expect(detectLanguage('x'.repeat(4096))).not.toBeUndefined();
  });
});

describe('the step', () => {
  const step = { kind: 'language', field: 'lang', confidenceField: 'sure' } as const;

  it('tells language and confidence', () => {
    const { confidence } = detectLanguage('Wo bleibt mein Paket?')!;
    expect(findLanguageFields(step, 'Wo bleibt mein Paket?')).toEqual({
      fields: { lang: 'de', sure: confidence },
      confidence,
    });
  });

  it('takes otherwise below the confidence asked for, and tells the confidence all the same', () => {
    const { confidence } = detectLanguage('Хочу вернуть деньги')!;
    const careful = { ...step, minConfidence: 0.9 };
    expect(findLanguageFields({ ...careful, otherwise: 'en' }, 'Хочу вернуть деньги')).toEqual({
      fields: { lang: 'en', sure: confidence },
    });
    expect(findLanguageFields(careful, 'Хочу вернуть деньги')).toMatchObject({
      fields: { sure: confidence },
      remark: expect.stringContaining(`confidence ${confidence} only`),
    });
  });

  it('is not sure at all of nothing', () => {
    expect(findLanguageFields(step, '👍')).toEqual({ fields: { sure: 0 }, remark: 'no language found' });
  });
});
