import { Webhook } from 'standardwebhooks';
import { expect, test } from 'vitest';
import { createWebhookSecret, signWebhook } from '../../platform/webhook-signature.ts';

const body = '{"text":"Grüße, 🎉"}';
const sign = (secrets: readonly string[], atMs = Date.now()) => signWebhook({ id: 'd-1', body, secrets, atMs });

test('the reference implementation of Standard Webhooks accepts what we sign', () => {
  const secret = createWebhookSecret();
  expect(new Webhook(secret).verify(body, sign([secret]))).toEqual(JSON.parse(body));
});

test('it refuses another secret, another body, another id and another time', () => {
  const secret = createWebhookSecret();
  const headers = sign([secret]);
  expect(() => new Webhook(createWebhookSecret()).verify(body, headers)).toThrow();
  expect(() => new Webhook(secret).verify(`${body} `, headers)).toThrow();
  expect(() => new Webhook(secret).verify(body, { ...headers, 'webhook-id': 'd-2' })).toThrow();
  expect(() => new Webhook(secret).verify(body, sign([secret], Date.now() - 3_600_000))).toThrow();
});

test('with two secrets, a receiver that knows one of them is content', () => {
  const [old, young] = [createWebhookSecret(), createWebhookSecret()];
  const headers = sign([young, old]);
  for (const secret of [old, young]) expect(new Webhook(secret).verify(body, headers)).toEqual(JSON.parse(body));
});

// From the scheme's own documentation of libraries: the secret, message and signature are known.
test('a known message has its known signature', () => {
  const headers = signWebhook({
    id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    body: '{"test": 2432232314}',
    secrets: ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'],
    atMs: 1_614_265_330_000,
  });
  expect(headers['webhook-signature']).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
});

test('nothing is sent unsigned', () => {
  expect(() => sign([])).toThrow();
});
