import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { percentile } from '../../ops/demo/percentile.ts';
import { startLoad } from './load.ts';
import { startStage } from './stage.ts';
import { runTiny, tinyEnv } from './tiny-bench.ts';

test('messages go out at their instants although the API stands still, and the time that it stood counts', async () => {
  await runTiny(async (bench) => {
    const stage = await startStage({ bench, env: tinyEnv() });
    const api = (await stage.components()).find(({ name }) => name === 'API')!.pids[0]!;
    const load = await startLoad(stage);
    try {
      const running = load.run({ rate: 10, seconds: 4, leadInSeconds: 0, arrivals: 'even', newContacts: 1 });
      await delay(1_000);
      process.kill(api, 'SIGSTOP');
      await delay(1_000);
      process.kill(api, 'SIGCONT');
      const report = await running;
      // A generator that waits for answers would have sent half of them.
      expect(report).toMatchObject({ offered: 40, newContacts: 40, unfinished: 0, refusals: {}, waited: 0 });
      expect(report.postToAnswer).toHaveLength(40);
      expect(percentile(report.postToAnswer, 100)).toBeGreaterThan(800);
      expect(report.postToAnswer.filter((ms) => ms > 300).length).toBeGreaterThanOrEqual(6);
      expect(report.openToAssigned).toHaveLength(40);
      expect(await stage.findFaults()).toEqual([]);
    } finally {
      await load.stop();
      await stage.stop();
    }
  });
});
